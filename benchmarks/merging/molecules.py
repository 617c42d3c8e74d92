"""Small molecules, and what ANI's networks see of each atom in them.

An atom is described by an *atomic environment vector*: radial terms per neighbouring element, and
angular terms per pair of neighbouring elements, 384 numbers for hydrogen, carbon, nitrogen and
oxygen.

Source: J. S. Smith, O. Isayev and A. E. Roitberg, "ANI-1", Chemical Science 8 (2017), equations 3
and 4; the constants are those of ANI-1x (J. S. Smith et al., J. Chem. Phys. 148, 2018).
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmarks.merging.packages import ASE

ELEMENTS = ("H", "C", "N", "O")
ATOMIC_NUMBERS = (1, 6, 7, 8)

RADIAL_CUTOFF, ANGULAR_CUTOFF = 5.2, 3.5
"""In Angstrom."""
RADIAL_SHIFTS = 0.9 + 0.26875 * torch.arange(16)
RADIAL_SHARPNESS = 16.0
ANGULAR_SHIFTS = 0.9 + 0.65 * torch.arange(4)
ANGULAR_SHARPNESS = 8.0
ANGLES = math.pi / 16 + math.pi / 8 * torch.arange(8)
ANGLE_EXPONENT = 32.0


@dataclass(frozen=True, eq=False)
class Molecule:
    """Elements ``(n,)``, as positions in ``ELEMENTS``, and places ``(n, 3)`` in Angstrom."""

    name: str
    elements: Tensor
    places: Tensor
    closed_shell: bool = True
    """Whether it has no unpaired electrons: ANI was trained on such."""


@dataclass(frozen=True, eq=False)
class Environments:
    """The atoms of many molecules, sorted by their elements."""

    count: int
    """How many molecules."""
    vectors: tuple[Tensor, ...]
    """Per element, the environment vectors of its atoms, ``(atoms, 384)``."""
    owners: tuple[Tensor, ...]
    """Per element, the molecule of every atom, ``(atoms,)``."""

    def sums(self, atomic: Sequence[Tensor]) -> Tensor:
        """Per element and molecule ``(4, molecules)`` the sum of what its atoms of that element
        have, given per element as ``(atoms, 1)``."""
        sums = torch.zeros(len(ELEMENTS), self.count, dtype=torch.float64)
        for row, owner, energy in zip(sums, self.owners, atomic, strict=True):
            row.index_add_(0, owner, energy.detach().flatten().double())
        return sums


def molecules() -> list[Molecule]:
    """The molecules of the G2 set of H, C, N and O that have two or more atoms.

    Raises:
        UnavailableError: the package they are in cannot be had.
    """
    with zipfile.ZipFile(ASE.fetch()) as archive:
        stored = json.loads(archive.read("ase/collections/g2.json"))
    found = []
    for key in stored["ids"]:
        entry = stored[str(key)]
        numbers = entry["numbers"]
        if len(numbers) > 1 and set(numbers) <= set(ATOMIC_NUMBERS):
            elements = torch.tensor([ATOMIC_NUMBERS.index(n) for n in numbers])
            places = torch.tensor(entry["positions"], dtype=torch.float64)
            name, paired = entry["key_value_pairs"]["name"], "initial_magmoms" not in entry
            found.append(Molecule(name, elements, places, paired))
    return found


def shaken(molecule: Molecule, width: float, generator: torch.Generator) -> Molecule:
    """The molecule with every coordinate moved by noise of a width in Angstrom."""
    noise = torch.randn(molecule.places.shape, generator=generator, dtype=torch.float64)
    return replace(molecule, places=molecule.places + width * noise)


def environments(given: Sequence[Molecule]) -> Environments:
    """What the networks see of the atoms of molecules."""
    vectors = [environment_vectors(m) for m in given]
    elements = torch.cat([m.elements for m in given])
    owners = torch.cat([torch.full((len(m.elements),), k) for k, m in enumerate(given)])
    stacked = torch.cat(vectors)
    chosen = [elements == e for e in range(len(ELEMENTS))]
    return Environments(
        len(given), tuple(stacked[c] for c in chosen), tuple(owners[c] for c in chosen)
    )


def environment_vectors(molecule: Molecule) -> Tensor:
    """The vector of every atom of a molecule, ``(n, 384)``, in float32."""
    n = len(molecule.elements)
    apart = molecule.places[None] - molecule.places[:, None]  # from atom i to atom j
    distances = apart.norm(dim=2)
    others = ~torch.eye(n, dtype=torch.bool)
    radial = _radial(distances, others & (distances <= RADIAL_CUTOFF), molecule.elements)
    angular = _angular(apart, distances, others & (distances <= ANGULAR_CUTOFF), molecule.elements)
    return torch.cat([radial, angular], dim=1).float()


def _cutoff(distances: Tensor, radius: float) -> Tensor:
    return 0.5 * torch.cos(distances * (math.pi / radius)) + 0.5


def _radial(distances: Tensor, near: Tensor, elements: Tensor) -> Tensor:
    terms = 0.25 * torch.exp(-RADIAL_SHARPNESS * (distances[..., None] - RADIAL_SHIFTS).square())
    terms = terms * (_cutoff(distances, RADIAL_CUTOFF) * near)[..., None]
    sums = torch.zeros(len(elements), len(ELEMENTS), len(RADIAL_SHIFTS), dtype=torch.float64)
    return sums.index_add_(1, elements, terms).flatten(1)


def _angular(apart: Tensor, distances: Tensor, near: Tensor, elements: Tensor) -> Tensor:
    """Sums over unordered pairs of neighbours, a row per pair of their elements."""
    n, kinds = len(elements), len(ELEMENTS)
    row_of = torch.zeros(kinds, kinds, dtype=torch.long)
    for row, (first, second) in enumerate(torch.triu_indices(kinds, kinds).T.tolist()):
        row_of[first, second] = row_of[second, first] = row
    sums = torch.zeros(n, kinds * (kinds + 1) // 2, len(ANGULAR_SHIFTS) * len(ANGLES)).double()
    j, k = torch.triu_indices(n, n, offset=1)
    centre, pair = torch.nonzero(near[:, j] & near[:, k], as_tuple=True)
    j, k = j[pair], k[pair]
    first, second = distances[centre, j], distances[centre, k]
    cosines = (apart[centre, j] * apart[centre, k]).sum(1) / (first * second)
    angles = torch.acos(0.95 * cosines)  # the authors' way to keep the slope finite
    by_angle = ((1 + torch.cos(angles[:, None] - ANGLES)) / 2) ** ANGLE_EXPONENT
    middle = (first + second)[:, None] / 2
    by_distance = torch.exp(-ANGULAR_SHARPNESS * (middle - ANGULAR_SHIFTS).square())
    fading = 2 * _cutoff(first, ANGULAR_CUTOFF) * _cutoff(second, ANGULAR_CUTOFF)
    terms = (by_distance[:, :, None] * by_angle[:, None, :]).flatten(1) * fading[:, None]
    sums.index_put_((centre, row_of[elements[j], elements[k]]), terms, accumulate=True)
    return sums.flatten(1)
