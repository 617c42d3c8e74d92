"""A fine-tuning carried over to another base: what was learned, moved to where the units are there.

The difference that fine-tuning made is added to the new base, after its units are put where the new
base has them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

from torch import Tensor

from ..arguments import check_flag, check_function, check_kind, check_real
from ..errors import ArchitectureMismatchError
from ..matching.alignment import check_alignment, check_products
from ..matching.solvers import Solver, coordinate_descent
from ..matching.transforms.groups import check_group
from ..models.surroundings import neutral
from ..models.validation import check_same_tensors, check_state_dict, check_tensor
from ..objectives import Objective, weights
from ..symmetry.group import Symmetry, check_symmetry
from ..symmetry.transform import Subgroup, Transform
from .adapters import is_adapter, moved_factors
from .tensors import computing, varies

VARIANCE = "running_var"
"""What BatchNorm calls variances, which are multiplied, not added, so that they stay positive."""


@neutral()
def transport(
    symmetry: Symmetry,
    fine_tuned: Mapping[str, Tensor],
    *,
    base: Mapping[str, Tensor],
    to: Mapping[str, Tensor],
    permutation: Transform | None = None,
    scale: float = 1.0,
    fan_in_fan_out: bool | None = None,
    objective: Objective = weights,
    solver: Solver = coordinate_descent,
    group: Subgroup = "signed",
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Tensor]:
    """Carry a fine-tuning over to another base: ``to + scale * P(fine_tuned - base)``.

    P is the permutation that brings ``base`` closest to ``to``. Where ``to`` is ``base`` with its
    units in another order, the result is ``fine_tuned`` in that order, bit for bit. What it is
    worth between bases that were trained apart is for an evaluation to say.

    >>> import torch, fxrebasin as fr
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> symmetry = fr.analyze(net, args=(torch.zeros(1, 4),))
    >>> base = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    >>> fine_tuned = {name: tensor + 0.1 for name, tensor in base.items()}
    >>> shuffled = fr.Permutation.random(symmetry, torch.Generator().manual_seed(0))
    >>> to = shuffled.apply(base)
    >>> carried = fr.transport(symmetry, fine_tuned, base=base, to=to, progress=False)
    >>> all(torch.equal(t, carried[n]) for n, t in shuffled.apply(fine_tuned).items())
    True

    Args:
        symmetry: the group of the architecture, as found by :func:`fxrebasin.analyze`.
        fine_tuned: the weights that were trained from ``base``: all of them, or an adapter of PEFT
            with keys as ``base_model.model.layers.0.fc.lora_A.weight``. Of an adapter, the two
            factors of low rank are moved, each along its axis, and ``to`` is not added.
        base: the weights that fine-tuning began with.
        to: the new base, of the same architecture.
        permutation: of ``base`` into the frame of ``to``, where it is known; signs and scales may
            change as well, and, but for adapters, units be mixed.
        scale: how much of the difference is added. Not for adapters, which have their own.
        fan_in_fan_out: of adapters: do they belong to layers that store weights as ``(in, out)``,
            like ``Conv1D`` of transformers? None finds out from shapes.
        objective, solver, group, seed: as in :func:`fxrebasin.match`.
        progress: show a progress bar.

    Returns:
        The fine-tuning of ``to``: the keys, order, dtypes and type of mapping of ``fine_tuned``.
        Tensors of integers are those of ``to``; variances of BatchNorm are multiplied by the ratio
        of the bases' instead of added to. Nothing is mutated.

    Raises:
        ArchitectureMismatchError: the three do not have the same tensors, or not those of the
            symmetry; or an adapter has a key that belongs to no parameter.
        UnsupportedSymmetryError: factors of low rank cannot be moved as the weight would be.
        InvalidArgumentError: an argument makes no sense.

    Source:
        Ilharco et al., Editing Models with Task Arithmetic, ICLR 2023, for the difference; Rinaldi
        et al., Update Your Transformer to the Latest Release: Re-Basin of Task Vectors, ICML 2025,
        for carrying it over. Theirs matches heads by spectra; here heads are blocks like others.
    """
    check_symmetry(symmetry)
    for given, name in ((fine_tuned, "fine_tuned"), (base, "base"), (to, "to")):
        check_state_dict(given, name)
        for key, tensor in given.items():
            check_tensor(tensor, f"{name}[{key!r}]")
    check_real(scale, "scale")
    if permutation is not None:
        check_kind(permutation, Transform, "permutation", "a Permutation of base, or None")
    if fan_in_fan_out is not None:
        check_flag(fan_in_fan_out, "fan_in_fan_out")
    check_group(group)
    check_flag(progress, "progress")
    check_function(objective, "objective", "fr.objectives.weights")
    check_function(solver, "solver", "fr.solvers.coordinate_descent")
    check_same_tensors(base, to, named=("base", "to"))
    found: Transform
    if permutation is None:
        compared = objective(symmetry, base, to)
        check_products(compared)
        alignment = solver(compared.over(group), seed=seed, progress=progress)
        check_alignment(alignment)
        found = alignment.permutation
    elif permutation.symmetry.fingerprint == symmetry.fingerprint:
        found = permutation
    else:
        raise ArchitectureMismatchError(
            f"permutation: expected one of {symmetry!r}, found one of {permutation.symmetry!r}; "
            "give one that was found with this symmetry"
        )
    if is_adapter(fine_tuned):
        return _like(fine_tuned, moved_factors(found, fine_tuned, base, fan_in_fan_out))
    check_same_tensors(base, fine_tuned, named=("base", "fine_tuned"))
    before, after = found.apply(base), found.apply(fine_tuned)
    carried = {
        name: _carried(name, before[name], after[name], to[name], scale) for name in fine_tuned
    }
    return _like(fine_tuned, carried)


def _carried(name: str, before: Tensor, after: Tensor, to: Tensor, scale: float) -> Tensor:
    """One tensor of the result; where the new base is the old one, exactly what was learned."""
    if not varies(after):
        return to.detach().clone()
    old, learned, new = (computing(t.detach().to(after.device)) for t in (before, after, to))
    if name.endswith(VARIANCE) and bool((old > 0).all()):
        return (learned * (new / old)).to(after.dtype)
    result = learned + (new - old)
    if scale != 1:
        result = result + (scale - 1) * (learned - old)
    return result.to(after.dtype)


def _like(given: Mapping[str, Tensor], made: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same kind of mapping, with what it keeps beside its tensors."""
    result = copy.copy(given) if isinstance(given, dict) else dict(given)
    result.update(made)
    return result
