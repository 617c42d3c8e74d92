"""Symmetry that is easily lost: tokens that are parameters, biases per head, weights per group,
identity matrices, and halves that can change places."""

from __future__ import annotations

import pytest
import torch
from networks import Apply, f, real
from reliability import Case, Cases, check
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

torch.set_num_threads(1)

TOKENS, HEADS, GROUPS, IDENTITIES, HALVES = (Cases() for _ in range(5))

SEQUENCE = real(4, 3)(2)

# two or more tokens that are parameters, joined to the sequence before their features have names


class LearnedTokens(nn.Module):
    """A residual stream of 8 features, 3 tokens in it that are learned, and 5 hidden units."""

    def __init__(self) -> None:
        super().__init__()
        self.stem: nn.Module = nn.Linear(3, 8)
        self.head = nn.Linear(8, 2)
        self.norm, self.up, self.down = nn.LayerNorm(8), nn.Linear(8, 5), nn.Linear(5, 8)
        self.learned = nn.Parameter(torch.randn(1, 3, 8))

    def mlp(self, x: Tensor) -> Tensor:
        return x + self.down(self.up(self.norm(x)).relu())

    def join(self, x: Tensor) -> Tensor:
        return torch.cat([self.learned.expand(len(x), -1, -1), x], 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mlp(self.join(self.stem(x))))


@TOKENS.model(f(8) + f(5), SEQUENCE)
class QueriesInFront(LearnedTokens):
    """Detection tokens, which are read one by one."""


@TOKENS.model(f(8) + f(5), SEQUENCE)
class QueriesBehind(LearnedTokens):
    def join(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.learned.expand(len(x), -1, -1)], -2)


@TOKENS.model(f(8) + f(5) + f(3), SEQUENCE)
class MemoryThatIsPooled(LearnedTokens):
    """Nothing tells one token of the memory from another."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mlp(self.join(self.stem(x))).tanh().mean(1))


@TOKENS.model(f(8) + f(5) + f(3) + f(2), SEQUENCE)
class RegistersOfTwoKinds(LearnedTokens):
    """A class token, registers in front and behind: two sets of tokens that can be permuted."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = (nn.Parameter(torch.randn(1, n, 8)) for n in (1, 2))

    def join(self, x: Tensor) -> Tensor:
        first, learned, last = (
            t.expand(len(x), -1, -1) for t in (self.first, self.learned, self.last)
        )
        return torch.cat([first, learned, x, last], 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mlp(self.join(self.stem(x))).tanh().mean(1))


@TOKENS.model(f(8) + f(5), SEQUENCE)
class TokensThatAreAllLearned(LearnedTokens):
    """Two parameters are joined, and the result to the sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(1, 2, 8))

    def join(self, x: Tensor) -> Tensor:
        tokens = torch.cat([self.first, self.learned], 1)
        return torch.cat([tokens.expand(len(x), -1, -1), x], 1)


@TOKENS.model(f(8) + f(5), SEQUENCE)
class QueriesWithoutABatch(LearnedTokens):
    def join(self, x: Tensor) -> Tensor:
        return torch.stack([torch.cat([self.learned[0], x[k]], 0) for k in range(2)])


@TOKENS.model(f(8) + f(5), SEQUENCE)
class QueriesBesideOneToken(LearnedTokens):
    """The sequence itself has one token, and no place along it."""

    def join(self, x: Tensor) -> Tensor:
        return super().join(x.mean(1, keepdim=True))


@TOKENS.model(f(8) + f(5), real(3, 2, 2)(2))
class FeatureMapBesideQueries(LearnedTokens):
    """Tokens are the last axis, features the one before it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(3, 8, 1)
        self.learned = nn.Parameter(torch.randn(1, 8, 3))

    def join(self, x: Tensor) -> Tensor:
        return torch.cat([self.learned.expand(len(x), -1, -1), x], -1).mT

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(2))


# a row of a table of biases for each head


class BiasPerHead(nn.Module):
    """Heads of 3 features, each a module of its own, and a row of a table of biases for each.

    The features of queries and keys can be permuted head by head, and so can those of values.
    """

    def __init__(self, heads: int = 4) -> None:
        super().__init__()
        self.packed = nn.ModuleList(nn.Linear(3, 9) for _ in range(heads))
        self.bias, self.out = nn.Parameter(torch.randn(heads, 5)), nn.Linear(3 * heads, 2)
        place = torch.arange(4)
        self.distance: Tensor
        self.register_buffer("distance", (place[:, None] - place).abs())

    def biases(self) -> Tensor | list[Tensor]:
        return self.bias[:, self.distance]

    def attend(self, head: int, x: Tensor) -> Tensor:
        q, k, v = self.packed[head](x).chunk(3, -1)
        return (q @ k.mT + self.biases()[head]).softmax(-1) @ v

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.cat([self.attend(k, x) for k in range(len(self.packed))], -1).relu())


@HEADS.model(8 * f(3), SEQUENCE)
class HeadsWithRowsOfABias(BiasPerHead):
    pass


@HEADS.model(8 * f(3), SEQUENCE)
class HeadsThatIndexTheirRow(BiasPerHead):
    def biases(self) -> list[Tensor]:
        return [self.bias[k][self.distance] for k in range(len(self.bias))]


@HEADS.model(6 * f(3), SEQUENCE)
class ThreeHeads(BiasPerHead):
    def __init__(self) -> None:
        super().__init__(heads=3)


@HEADS.model(9 * f(3), SEQUENCE)
class CascadeOfHeads(BiasPerHead):
    """Each head gets a part of the features, and what the head before it has made of its own.

    Four axes of queries and keys; the first part, three that meet a result, and the last result.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(3, 12)

    def forward(self, x: Tensor) -> Tensor:
        results: list[Tensor] = []
        for k, part in enumerate(self.stem(x).tanh().chunk(4, -1)):
            results.append(self.attend(k, part + results[-1] if results else part))
        return self.out(torch.cat(results, -1).relu())


@HEADS.model(9 * f(3), SEQUENCE)
class CascadeInAnotherOrder(CascadeOfHeads):
    """The last head, which has met the most rows of the table, comes first."""

    def forward(self, x: Tensor) -> Tensor:
        results: list[Tensor] = []
        for k, part in enumerate(self.stem(x).tanh().chunk(4, -1)):
            results.append(self.attend(k, part + results[-1] if results else part))
        return self.out(torch.cat(results[::-1], -1).relu())


# a weight per group, not written as an einsum


class WeightPerGroup(nn.Module):
    """Two groups of 4 inputs and 3 outputs each; the groups can change places."""

    shape = (2, 3, 4)

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(3, 8), nn.Linear(6, 2)
        self.weight = nn.Parameter(torch.randn(self.shape))

    def mix(self, h: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mix(self.stem(x).tanh().view(-1, 2, 4)).tanh().flatten(1))


PER_GROUP = f(2) + 2 * f(4) + 2 * f(3)


@GROUPS.model(PER_GROUP)
class MatrixTimesVectorPerGroup(WeightPerGroup):
    def mix(self, h: Tensor) -> Tensor:
        return (self.weight @ h.unsqueeze(-1)).squeeze(-1)


@GROUPS.model(PER_GROUP)
class VectorTimesMatrixPerGroup(WeightPerGroup):
    shape = (2, 4, 3)

    def mix(self, h: Tensor) -> Tensor:
        return (h.unsqueeze(-2) @ self.weight).squeeze(-2)


@GROUPS.model(PER_GROUP)
class ProductsSummedPerGroup(WeightPerGroup):
    def mix(self, h: Tensor) -> Tensor:
        return (self.weight * h.unsqueeze(-2)).sum(-1)


@GROUPS.model(PER_GROUP)
class ProductsOfWhichTheLargestIsKept(WeightPerGroup):
    """Groups are the second axis of the weight."""

    shape = (4, 2, 3)

    def mix(self, h: Tensor) -> Tensor:
        return (h.permute(0, 2, 1).unsqueeze(-1) * self.weight).relu().amax(1)


@GROUPS.model(PER_GROUP)
class NormalisedAndMultipliedPerGroup(WeightPerGroup):
    def mix(self, h: Tensor) -> Tensor:
        weight = self.weight / self.weight.norm(dim=-1, keepdim=True)
        return (weight * h.unsqueeze(-2)).sum(-1)


@GROUPS.model(PER_GROUP)
class WeightsOfGroupsByIndex(WeightPerGroup):
    def mix(self, h: Tensor) -> Tensor:
        return torch.einsum("goi,bgi->bgo", self.weight[torch.tensor([1, 0])], h)


@GROUPS.model(2 * f(4) + 2 * f(3))
class GroupsOneByOne(WeightPerGroup):
    """That both are treated alike is not seen: the groups stay, what is in them moves."""

    def mix(self, h: Tensor) -> Tensor:
        return torch.stack([h[:, k] @ self.weight[k].T for k in range(2)], 1)


@GROUPS.model(f(4) + f(3))
class SameUnitsInEveryGroup(WeightPerGroup):
    """Rows and columns are read in the same order in both groups, one of which is scaled."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(3, 4), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x).tanh()
        one, other = (self.weight * h[:, None, None]).sum(-1).tanh().unbind(1)
        return self.head(one + 2 * other)


# constants that say that two axes are one


class Square(nn.Module):
    """A square matrix between 6 units and themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(3, 6), nn.Linear(6, 2)
        self.square = nn.Parameter(torch.randn(6, 6))

    def matrix(self) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x).tanh()
        return self.head(h + (h @ self.matrix().T).tanh())


@IDENTITIES.model(f(6))
class IdentityAdded(Square):
    def matrix(self) -> Tensor:
        return torch.eye(6) + self.square


@IDENTITIES.model(f(6))
class DiagonalMaskedOut(Square):
    def matrix(self) -> Tensor:
        return self.square * (1 - torch.eye(6))


@IDENTITIES.model(f(6))
class DiagonalFilled(Square):
    def matrix(self) -> Tensor:
        return self.square.masked_fill(torch.diag(torch.ones(6)).bool(), 0.5)


@IDENTITIES.model(f(6))
class SkewMatrixWithDamping(Square):
    """Of AntisymmetricRNN."""

    def matrix(self) -> Tensor:
        return self.square - self.square.T - 0.1 * torch.eye(6)


@IDENTITIES.model(f(6))
class FirstTermsOfAnExponential(Square):
    def matrix(self) -> Tensor:
        identity = torch.eye(6)
        skew = self.square - self.square.T
        return identity + skew @ (identity + skew / 2)


@IDENTITIES.model(f(6))
class IdentityKeptAsPlainAttribute(Square):
    """No state dict holds it."""

    def __init__(self) -> None:
        super().__init__()
        self.identity = torch.eye(6)

    def matrix(self) -> Tensor:
        return self.identity.to(self.square) + self.square


@IDENTITIES.model(0.0)
class IdentityInABuffer(Square):
    """Another state dict may hold something else there."""

    def __init__(self) -> None:
        super().__init__()
        self.identity: Tensor
        self.register_buffer("identity", torch.eye(6))

    def matrix(self) -> Tensor:
        return 2 * self.identity.T + self.square


@IDENTITIES.model(0.0)
class AlmostTheIdentity(Square):
    def matrix(self) -> Tensor:
        return torch.diag(torch.arange(6.0)) + self.square


@IDENTITIES.model(0.0)
class CircleOfUnits(Square):
    """Each is next to another: a permutation matrix that is not the identity."""

    def matrix(self) -> Tensor:
        return torch.eye(6).roll(1, 0) + self.square


@IDENTITIES.model(f(6) + f(4))
class IdentityThroughTwoLayers(Square):
    """How adapters find the matrix that two layers make."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(6, 4, bias=False), nn.Linear(4, 6, bias=False)

    def matrix(self) -> Tensor:
        matrix = self.square + self.up(self.down(torch.eye(6).to(self.square))).T
        return matrix / matrix.norm(dim=1, keepdim=True)


@IDENTITIES.model(f(6) + f(5))
class ProjectionAwayFromItself(Square):
    """``I - V.T V``; the 5 directions are another axis."""

    def __init__(self) -> None:
        super().__init__()
        self.square = nn.Parameter(torch.randn(5, 6))

    def matrix(self) -> Tensor:
        return torch.eye(6) - self.square.T @ self.square


@IDENTITIES.model(f(2) + f(3))
class IdentityInBlocks(Square):
    """``I`` of two axes that are a product: each is tied to its own."""

    def __init__(self) -> None:
        super().__init__()
        self.square = nn.Parameter(torch.randn(2, 2))
        self.inner = nn.Parameter(torch.randn(3, 3))

    def matrix(self) -> Tensor:
        outer = self.square[:, None, :, None] * torch.eye(3)[None, :, None, :]
        inner = torch.eye(2)[:, None, :, None] * self.inner[None, :, None, :]
        return (outer + inner).reshape(6, 6)


# halves of one tensor that meet where their order does not matter

PAIRS, FIXED_PAIRS = f(3) + 3 * f(2), f(3)


@HALVES.hidden(PAIRS, m=3)
def larger_of_two_halves(h: Tensor) -> Tensor:
    return torch.maximum(*h.split(3, -1))


@HALVES.hidden(PAIRS, m=3)
def smaller_of_two_slices(h: Tensor) -> Tensor:
    return torch.min(h[:, :3].relu(), h[:, 3:].relu())


@HALVES.hidden(PAIRS, m=3)
def halves_added(h: Tensor) -> Tensor:
    one, other = h.chunk(2, -1)
    return one.exp() + other.exp()


@HALVES.hidden(PAIRS, m=3)
def neighbours_multiplied(h: Tensor) -> Tensor:
    return h[:, ::2] * h[:, 1::2]


@HALVES.hidden(PAIRS, m=3)
def rows_of_a_view_multiplied(h: Tensor) -> Tensor:
    one, other = h.view(-1, 2, 3).unbind(1)
    return one.mul(other)


@HALVES.hidden(FIXED_PAIRS, m=3)
def halves_of_which_one_is_scaled(h: Tensor) -> Tensor:
    one, other = h.chunk(2, -1)
    return one.add(other, alpha=2)


@HALVES.hidden(FIXED_PAIRS, m=3)
def halves_subtracted(h: Tensor) -> Tensor:
    one, other = h.chunk(2, -1)
    return one - other


@HALVES.hidden(FIXED_PAIRS, m=3)
def halves_with_slopes_of_their_own(h: Tensor) -> Tensor:
    one, other = h.chunk(2, -1)
    return leaky_relu(one, 0.1) * leaky_relu(other, 0.2)


@HALVES.hidden(FIXED_PAIRS, m=3)
def halves_of_which_one_is_used_again(h: Tensor) -> Tensor:
    one, other = h.chunk(2, -1)
    return torch.maximum(one, other) + one.exp()


@HALVES.hidden(f(3) + 6 * f(2))
def halves_added_to_both(h: Tensor) -> Tensor:
    """The sum of a pair is there twice, and the layer behind has a choice of its own."""
    return h + h.roll(3, -1)


@HALVES.hidden(f(2) + 2 * f(3), m=2)
def thirds_stacked_and_summed(h: Tensor) -> Tensor:
    return torch.stack([third.relu() for third in h.chunk(3, -1)], -1).sum(-1)


@HALVES.hidden(f(6))
def halves_that_change_places(h: Tensor) -> Tensor:
    return torch.cat([h[:, 3:].relu(), h[:, :3].relu()], 1)


@HALVES.hidden(2 * f(3))
def halves_of_two_kinds_that_change_places(h: Tensor) -> Tensor:
    return torch.cat([h[:, 3:].relu(), h[:, :3].exp()], 1)


@HALVES.hidden(2 * f(3), m=9)
def half_of_a_tensor_beside_it(h: Tensor) -> Tensor:
    return torch.cat([h[:, 3:], h], 1)


@HALVES.model(PAIRS, real(3, 5, 5)(2))
class LargerChannels(nn.Sequential):
    """Max-feature-map."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 6, 3), Apply(self.larger), nn.Conv2d(3, 2, 1))

    @staticmethod
    def larger(h: Tensor) -> Tensor:
        return torch.max(*torch.split(h, 3, 1))


@pytest.mark.parametrize("case", TOKENS.each())
def test_tokens_that_are_parameters_leave_the_features_of_the_sequence_free(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("case", HEADS.each())
def test_a_row_of_a_table_for_each_head_leaves_the_features_of_the_heads_free(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("case", GROUPS.each())
def test_a_weight_per_group_has_units_per_group_however_it_is_written(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("case", IDENTITIES.each())
def test_an_identity_matrix_ties_its_axes_and_does_not_pin_them(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("case", HALVES.each())
def test_halves_change_places_where_an_op_does_not_mind_their_order(case: Case) -> None:
    check(case)
