"""The eight members of ANI-1x: potentials of molecules that were trained from different seeds.

A member is four multilayer perceptrons, one per chemical element, whose outputs for all atoms of a
molecule are summed to its energy.
"""

from __future__ import annotations

import itertools
import zipfile

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.merging.molecules import ELEMENTS, Environments
from benchmarks.merging.packages import TORCHANI

MEMBERS = 8
SIZES = {
    "H": (384, 160, 128, 96, 1),
    "C": (384, 144, 112, 96, 1),
    "N": (384, 128, 112, 96, 1),
    "O": (384, 128, 112, 96, 1),
}
KCAL_PER_MOL = 627.5094738898777
"""In one Hartree."""


class Potential(nn.Module):
    """A network per element, side by side."""

    def __init__(self) -> None:
        super().__init__()
        for element in ELEMENTS:
            layers: list[nn.Module] = []
            for n, m in itertools.pairwise(SIZES[element]):
                layers += [nn.Linear(n, m), nn.CELU(alpha=0.1)]
            self.add_module(element, nn.Sequential(*layers[:-1]))

    def forward(self, h: Tensor, c: Tensor, n: Tensor, o: Tensor) -> tuple[Tensor, ...]:
        """The energies of atoms ``(atoms, 1)`` in Hartree, per element, of ``(atoms, 384)``."""
        given = zip(ELEMENTS, (h, c, n, o), strict=True)
        return tuple(self.get_submodule(element)(x) for element, x in given)


def read_members() -> list[Potential]:
    """All members.

    Raises:
        UnavailableError: the package they are in cannot be had.
    """
    with zipfile.ZipFile(TORCHANI.fetch()) as archive:
        return [_read(archive, member) for member in range(MEMBERS)]


@torch.no_grad()
def _read(archive: zipfile.ZipFile, member: int) -> Potential:
    potential = Potential().eval()
    for element in ELEMENTS:
        folder = f"torchani/resources/ani-1x_8x/train{member}/networks/ANN-{element}.nnf"
        layers = [x for x in potential.get_submodule(element).children() if list(x.parameters())]
        for k, layer in enumerate(layers, start=1):
            for kind, parameter in zip("wb", layer.parameters(), strict=True):
                raw = archive.read(f"{folder}-l{k}.{kind}param")
                values = torch.from_numpy(np.frombuffer(raw, dtype="<f4").copy())
                parameter.copy_(values.reshape(parameter.shape))
    return potential


@torch.no_grad()
def energies(model: nn.Module, seen: Environments) -> Tensor:
    """Per element and molecule ``(4, molecules)`` the energy of its atoms of that element, in
    kcal/mol, but for a constant per atom."""
    return KCAL_PER_MOL * seen.sums(model(*seen.vectors))
