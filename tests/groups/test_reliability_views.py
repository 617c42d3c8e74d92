"""Views that are written through, and views that are read after their base was written to.

``torch.fx`` cannot trace assignments to items of a tensor: where there are some, another front end
takes over.
"""

from __future__ import annotations

import pytest
import torch
from networks import f
from reliability import Case, Cases, check
from torch import Tensor

torch.set_num_threads(1)

VIEWS = Cases()


@VIEWS.hidden(f(2) + f(4))
def slice_of_units(h: Tensor) -> Tensor:
    h[:, :2].mul_(2).sin_()
    return h


@VIEWS.hidden(f(5))
def one_unit(h: Tensor) -> Tensor:
    h.select(1, 2).exp_()
    return h


@VIEWS.hidden(f(2) + f(4))
def view_of_a_view(h: Tensor) -> Tensor:
    h.narrow(1, 1, 3).narrow(1, 0, 2).exp_()
    return h


@VIEWS.hidden(f(2) + f(4))
def rows_of_the_transpose(h: Tensor) -> Tensor:
    h.t()[1:3].exp_()
    return h


@VIEWS.hidden(2 * f(3))
def every_other_unit_by_unfolding(h: Tensor) -> Tensor:
    h.unfold(1, 2, 2)[..., 0].exp_()
    return h


@VIEWS.hidden(2 * f(3))
def every_other_unit_of_a_table(h: Tensor) -> Tensor:
    """Units 0, 1, 2 are the first row of the table, and the first column of its transpose."""
    h.unflatten(1, (2, 3)).transpose(1, 2)[..., 0].exp_()
    return h


@VIEWS.hidden(f(3))
def one_half_added_to_the_other(h: Tensor) -> Tensor:
    h[:, :3].add_(h[:, 3:])
    return h


@VIEWS.hidden(f(3))
def coupled_halves(h: Tensor) -> Tensor:
    """As in a normalising flow: each half is changed by the other."""
    h[:, :3] += h[:, 3:].tanh()
    h[:, 3:] *= h[:, :3].tanh()
    return h


@VIEWS.hidden(f(5))
def all_but_one_gated_by_it(h: Tensor) -> Tensor:
    h[:, 1:].mul_(h[:, :1])
    return h


@VIEWS.hidden(f(6))
def some_examples(h: Tensor) -> Tensor:
    h[:2] = h[:2].exp()
    return h


@VIEWS.hidden(f(2) + f(4))
def some_units_of_some_examples(h: Tensor) -> Tensor:
    h[:2, :2] = h[:2, :2].exp()
    return h


@VIEWS.hidden(f(6))
def through_detach(h: Tensor) -> Tensor:
    """It shares the numbers; what it is told, the original holds."""
    h.detach().mul_(2).cos_()
    return h


@VIEWS.hidden(f(5), m=11)
def view_taken_before_its_base_is_written(h: Tensor) -> Tensor:
    most = h[:, 1:]
    h.mul_(2).sin_()
    return torch.cat([h, most], 1)


@VIEWS.hidden(f(6))
def expanded_before_its_base_is_written(h: Tensor) -> Tensor:
    three = h.unsqueeze(0).expand(3, -1, -1)
    h.exp_()
    return three.sum(0)


@VIEWS.hidden(f(6))
def contiguous_is_no_copy(h: Tensor) -> Tensor:
    h.contiguous()[:].exp_()
    return h


@VIEWS.hidden(f(2) + f(4))
def clone_is_a_copy(h: Tensor) -> Tensor:
    copied = h.clone()
    copied[:, :2].exp_()
    return h + copied


@VIEWS.hidden(f(6), m=12)
def one_of_two_copies(h: Tensor) -> Tensor:
    both = h.unsqueeze(1).expand(-1, 2, -1).clone()
    both[:, 0].exp_()
    return both.flatten(1)


@VIEWS.hidden(2 * f(3))
def halves_of_an_empty_tensor(h: Tensor) -> Tensor:
    result = h.new_empty(h.shape)
    result[:, :3] = h[:, 3:]
    result[:, 3:] = h[:, :3].exp()
    return result


@VIEWS.hidden(f(3) + 6 * f(2))
def added_to_their_mirror_images_in_place(h: Tensor) -> Tensor:
    """Rows 0 and 1 of a table of two: each becomes the sum of both, so that in each column they can
    be exchanged, before and after."""
    table = h.view(-1, 2, 3)
    table.add_(table.flip(1))
    return h


@VIEWS.hidden(2 * f(3))
def one_of_two_chunks(h: Tensor) -> Tensor:
    """Such a view may not be written to while gradients are recorded."""
    h.chunk(2, 1)[0].mul_(2).sin_()
    return h


@VIEWS.hidden(f(6))
def all_of_a_flattened_view(h: Tensor) -> Tensor:
    h.view(-1).exp_()
    return h


@VIEWS.hidden(f(6))
def some_rows_of_a_flattened_view_alone(h: Tensor) -> Tensor:
    h.view(-1)[6:12].exp_()
    return h


@VIEWS.hidden(2 * f(3))
def every_other_entry_of_a_flattened_view(h: Tensor) -> Tensor:
    h.view(-1)[::2].exp_()
    return h


@VIEWS.hidden(f(6))
def flattened_view_taken_before_its_base_is_written(h: Tensor) -> Tensor:
    flat = h.view(-1)
    h.exp_()
    return (flat * 2).view(-1, 6)


@VIEWS.hidden(2 * f(3))
def flattened_view_taken_before_half_of_its_base_is_written(h: Tensor) -> Tensor:
    flat = h.view(-1)
    h[:, :3].exp_()
    return (flat * 2).view(-1, 6)


@VIEWS.hidden(f(6))
def rows_joined_two_by_two_before_their_base_is_written(h: Tensor) -> Tensor:
    pairs = h.view(-1, 12)
    h.exp_()
    return pairs.sin().view(-1, 6)


@VIEWS.hidden(f(2))
def diagonal_taken_before_its_base_is_written(h: Tensor) -> Tensor:
    """Every example is shifted by one of the first four units; the last two can change places."""
    diagonal = h[:, :4].diagonal()
    h.exp_()
    return h + diagonal.unsqueeze(1)


@pytest.mark.parametrize("case", VIEWS.each())
def test_views_that_are_written_through(case: Case) -> None:
    check(case)
