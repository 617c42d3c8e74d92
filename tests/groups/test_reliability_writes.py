"""In-place ops, and tensors that are used again after being written."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from networks import Residual, f, real
from reliability import Case, Cases, X, check, made
from torch import Tensor, nn

import fxrebasin as fr
from fxrebasin.errors import InvalidInputError

torch.set_num_threads(1)

IN_PLACE, REUSED = Cases(), Cases()


# in-place ops


@IN_PLACE.hidden(f(6))
def before_and_after_an_activation(h: Tensor) -> Tensor:
    """Both terms are what the activation left behind."""
    return h + h.relu_()


@IN_PLACE.hidden(f(6))
def augmented_assignments(h: Tensor) -> Tensor:
    h += h.cos()
    h *= 2
    h -= 1
    h /= 3
    return h


@IN_PLACE.hidden(f(6))
def three_operands(h: Tensor) -> Tensor:
    return h.addcmul_(h.sin(), h.cos(), value=2).lerp_(h.exp(), 0.3).clamp_(-1, 2)


@IN_PLACE.hidden(f(6))
def shapes_changed_in_place(h: Tensor) -> Tensor:
    return h.t_().mul_(2).unsqueeze_(1).squeeze_(1).transpose_(0, 1)


@IN_PLACE.hidden(f(6))
def masked_by_their_own_values(h: Tensor) -> Tensor:
    return h.masked_fill_(h > 0.2, -1)


@IN_PLACE.hidden(0.0)
def masked_by_position(h: Tensor) -> Tensor:
    """A mask that is not uniform pins what it masks."""
    return h.masked_fill_(torch.tensor([True, False, False, True, False, False]), -1)


@IN_PLACE.hidden(f(6))
def sorted_into_themselves(h: Tensor) -> Tensor:
    """The first layer's rows move alone: sorting undoes it."""
    return h.copy_(h.sort(1)[0])


@IN_PLACE.hidden(f(6))
def zeros_and_constants(h: Tensor) -> Tensor:
    return h * h.clone().fill_(3.0) + h.clone().zero_()


@IN_PLACE.hidden(f(6))
def gated_by_a_row_that_was_overwritten(h: Tensor) -> Tensor:
    h[0].copy_(h[1])
    return h * h[0]


@IN_PLACE.model(f(6) + f(5), real(3)(4))
def in_place_activations_in_residual_blocks() -> nn.Module:
    """The stream itself is overwritten before the branch is added to it."""
    branch = Residual(
        nn.ReLU(inplace=True), nn.Linear(6, 5), nn.SiLU(inplace=True), nn.Linear(5, 6)
    )
    return nn.Sequential(nn.Linear(3, 6), branch, nn.Hardtanh(inplace=True), nn.Linear(6, 2))


class TwoLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(3, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x).tanh())


@IN_PLACE.model(f(6))
class NormalisesItsWeights(TwoLayers):
    """As with weights of unit norm: forward writes to a parameter."""

    def forward(self, x: Tensor) -> Tensor:
        self.head.weight.data.div_(self.head.weight.data.norm(dim=1, keepdim=True))
        self.first.weight.data.clamp_(-0.5, 0.5)
        return super().forward(x)


@IN_PLACE.model(f(6), X.clone())
class WritesToItsInput(TwoLayers):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.mul_(2))


@IN_PLACE.model(f(6), X.clone())
class WritesToAPartOfItsInput(TwoLayers):
    def forward(self, x: Tensor) -> Tensor:
        x[:, :1].mul_(2)
        return super().forward(x)


@IN_PLACE.hidden(f(6))
def told_where_to_write(h: Tensor) -> Tensor:
    result = torch.empty_like(h)
    torch.sin(h, out=result)
    return result


@IN_PLACE.hidden(f(6))
def matrix_product_told_where_to_write(h: Tensor) -> Tensor:
    gram = h.new_zeros(len(h), len(h))
    torch.mm(h, h.t(), out=gram)
    return h * gram.sum(1, keepdim=True)


@pytest.mark.parametrize("case", IN_PLACE.each())
def test_ops_in_place(case: Case) -> None:
    check(case)


# tensors that are used again


@REUSED.hidden(f(6))
def two_names_for_one_tensor(h: Tensor) -> Tensor:
    other = h.tanh_()
    total = h + other
    h.mul_(total)
    return total + other


@REUSED.hidden(f(6))
def every_stage_is_used(h: Tensor) -> Tensor:
    doubled = h * 2
    h.exp_()
    trebled = h * 3
    h.sin_()
    return doubled * trebled * h


@REUSED.hidden(f(6))
def accumulator(h: Tensor) -> Tensor:
    total = torch.zeros_like(h)
    total += h
    total -= h.exp()
    return total


@REUSED.hidden(2 * f(3))
def halves_exchanged_by_way_of_a_copy(h: Tensor) -> Tensor:
    left, right = h[:, :3], h[:, 3:]
    kept = left.clone()
    left.copy_(right)
    right.copy_(kept)
    return h


@REUSED.hidden(2 * f(6))
def nothing_is_left(h: Tensor) -> Tensor:
    """Zeros come out: neither the rows in front nor the columns behind matter."""
    h.detach().zero_()
    return h


class TwoBranches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 6), nn.Linear(3, 5)
        self.head_a, self.head_b = nn.Linear(6, 2), nn.Linear(5, 2)

    def worked(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """A buffer that the first branch has filled, and what was read from it."""
        work = x.new_empty(x.shape[0], 6)
        work.copy_(self.a(x).tanh())
        return work, self.head_a(work)


@REUSED.model(f(6) + f(5))
class Workspace(TwoBranches):
    """One tensor for the hidden units of both branches; nothing reads what is left of the first."""

    def forward(self, x: Tensor) -> Tensor:
        work, first = self.worked(x)
        work = work.narrow(1, 0, 5).copy_(self.b(x).tanh()).clone()
        return first + self.head_b(work)


@REUSED.model(f(6) + f(5))
class WorkspaceReadThroughViews(TwoBranches):
    """What was written last is all that is read, by way of views of it."""

    def forward(self, x: Tensor) -> Tensor:
        work, first = self.worked(x)
        part = work.narrow(1, 0, 5).copy_(self.b(x).tanh())
        turned = part.t().unsqueeze(0)
        return first + self.head_b(turned.squeeze(0).t())


@REUSED.model(f(5) + f(5))
class WorkspaceWithARest(TwoBranches):
    """The sixth unit of the first branch is still there after the second, and is an output."""

    def forward(self, x: Tensor) -> Tensor:
        work, first = self.worked(x)
        work[:, :5].copy_(self.b(x).tanh())
        return first + self.head_b(work[:, :5]) + work[:, 5:]


@REUSED.model(f(6))
class StateInALoop(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.recur, self.head = nn.Linear(3, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        state = self.first(x).tanh()
        for _ in range(3):
            state.copy_(self.recur(state).tanh() + state)
        return self.head(state)


@REUSED.model(f(6))
class ShortcutThatIsOverwritten(nn.Module):
    """The shortcut was meant to be what it was before the activation."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(3, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        shortcut = h
        h = F.relu(h, inplace=True)
        return self.head(self.second(h) + shortcut)


@pytest.mark.parametrize("case", REUSED.each())
def test_tensors_that_are_used_again_after_being_written(case: Case) -> None:
    check(case)


def test_what_forward_wrote_to_a_parameter_is_undone_on_errors_too() -> None:
    class Fails(NormalisesItsWeights):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).view(7, 7)

    model = Fails()
    before = model.head.weight.detach().clone()
    with pytest.raises(InvalidInputError, match="view"):
        fr.analyze(model, args=(X,))
    assert torch.equal(model.head.weight, before)


def test_a_model_that_writes_to_its_weights_still_does() -> None:
    """Only the analysis leaves them alone: a permuted copy is a model like the original."""
    model = made(IN_PLACE["NormalisesItsWeights"], 0)
    moved = fr.Permutation.random(
        fr.analyze(model, args=(X,)), torch.Generator().manual_seed(0)
    ).apply_to(model)
    moved(X)
    assert torch.allclose(moved.get_parameter("head.weight").norm(dim=1), torch.ones(2))
