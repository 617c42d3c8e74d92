"""Hidden units seen as a table of rows and columns."""

from __future__ import annotations

from torch import Tensor, nn

from .parts import around
from .registry import FLAT, S, f, network, wr


@network(FLAT, f(2) + 2 * f(4), wr(2, 4))
def softmax_in_groups() -> nn.Module:
    return around(lambda h: h.view(-1, 2, 4).softmax(2).flatten(1), 8)


@network(FLAT, f(2) + f(4), S(2, 4))
def softmax_both_ways() -> nn.Module:
    """Rows and columns of a 2 x 4 table of units: whole rows and whole columns move."""
    return around(lambda h: (lambda t: t.softmax(2) + t.softmax(1))(h.view(-1, 2, 4)).flatten(1), 8)


@network(FLAT, 2 * f(3), S(3, 3))
def rows_with_different_fates() -> nn.Module:
    def forward(h: Tensor) -> Tensor:
        table = h.view(-1, 2, 3)
        return table[:, 0] * table[:, 1].amax(1, keepdim=True)

    return around(forward, 6, 3)


@network(FLAT, f(2), S(2))
def added_to_their_transpose() -> nn.Module:
    """Unit k meets unit 3k mod 5: 0 and 5 meet themselves, 1, 3, 4, 2 are a cycle.

    The two are free; the cycle could be turned, which is no product of symmetric groups.
    """
    return around(lambda h: h + h.view(-1, 2, 3).transpose(1, 2).reshape(-1, 6).exp(), 6)


def attend(rows: Tensor) -> Tensor:
    return (rows @ rows.mT).softmax(-1) @ rows


@network(FLAT, f(2), S(2), incomplete="what exchanges rows and columns at once is no block")
def attention_of_units_in_another_order() -> nn.Module:
    """A 3 x 4 table of units, shuffled, attends to itself and is added to the unshuffled one.

    Of the 144 permutations of rows and columns two commute with the shuffle.
    """
    order = [3, 1, 2, 0, 5, 4, 6, 8, 7, 11, 10, 9]
    return around(lambda h: attend(h[:, order].view(-1, 3, 4)).flatten(1) + h, 12)


@network(FLAT, f(2), S(2), incomplete="what exchanges rows and columns at once is no block")
def attention_of_units_the_other_way() -> nn.Module:
    """The same with columns that attend, and their table is flattened as 4 x 3."""
    return around(lambda h: attend(h.view(-1, 3, 4).mT).flatten(1) + h, 12)


@network(FLAT, f(3), S(3), incomplete="units whose pairs are summed in part are pinned")
def products_summed_in_other_rows() -> nn.Module:
    """All pairs of A0-A2 and B0-B3, rolled, so that a row holds A1 B3 and A2 with the other B.

    B0, B1 and B2 are alike; A0, A1 and A2 could be turned, which is no product of S_n.
    """

    def forward(h: Tensor) -> Tensor:
        pairs = (h[:, :3, None] * h[:, None, 3:]).flatten(1)
        return pairs.roll(5, 1).view(-1, 3, 4).sum(2)

    return around(forward, 7, 3)


CHOSEN = "units that are left out where entries are chosen are pinned"


@network(FLAT, f(3) + f(2), S(3, 2), incomplete=CHOSEN)
class PartOfATableIsAnOutput(nn.Module):
    """Column 1 of a 3 x 4 table of units is seen, and of its rows the first two."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(3, 12), nn.Linear(12, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.first(x).tanh()
        return self.head(h), attend(h.view(-1, 3, 4).mT).flatten(1)[:, 3:5].sum(1)
