"""Protein structures, and what ProteinMPNN sees of them.

A structure is a graph: every residue has the residues nearest to it as neighbours, itself among
them, and an edge to each that tells how far their atoms are apart and how far they are apart along
the chain.

Source: J. Dauparas et al., "Robust deep learning-based protein sequence design using
ProteinMPNN", Science 378 (2022), with the constants of its published weights.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.merging.packages import EMBOSS, PYMOL, Package, UnavailableError

LETTERS = "ACDEFGHIKLMNPQRSTVWY"
RESIDUES = (
    *("ALA", "CYS", "ASP", "GLU", "PHE", "GLY", "HIS", "ILE", "LYS", "LEU"),
    *("MET", "ASN", "PRO", "GLN", "ARG", "SER", "THR", "VAL", "TRP", "TYR"),
)
BACKBONE = ("N", "CA", "C", "O")
NEIGHBOURS = 48
DISTANCES = torch.linspace(2.0, 22.0, 16)
"""Centres of the bells that distances in Angstrom are told by."""
BELL = 1.25
LONGEST_OFFSET = 32
"""Along a chain; what is farther apart is told as this."""
PAIRS = (
    *("CA-CA", "N-N", "C-C", "O-O", "CB-CB", "CA-N", "CA-C", "CA-O", "CA-CB", "N-C", "N-O"),
    *("N-CB", "CB-C", "CB-O", "O-C", "N-CA", "C-CA", "O-CA", "CB-CA", "C-N", "O-N", "CB-N"),
    *("C-CB", "O-CB", "C-O"),
)
"""Atoms of a residue and of its neighbour whose distance an edge tells, in this order."""

STRUCTURES: dict[str, tuple[Package, str, str]] = {
    "1hpv": (PYMOL, "./usr/share/pymol/data/tut/1hpv.pdb", "A"),
    "1tii": (PYMOL, "./usr/share/pymol/data/demo/1tii.pdb", "D"),
    "il2": (PYMOL, "./usr/share/pymol/data/demo/il2.pdb", ""),
    "2hhb": (EMBOSS, "./usr/share/EMBOSS/test/data/structure/2hhb.ent", "A"),
    "1fx2": (EMBOSS, "./usr/share/EMBOSS/test/data/structure/pdb/1fx2.ent", "A"),
    "4at1": (EMBOSS, "./usr/share/EMBOSS/test/data/structure/pdb/4at1.ent", "A"),
}
"""Where structures are, and which chain is read; "" is the first."""


class Protein(NamedTuple):
    """A chain as the network is given it."""

    edges: Tensor
    """What distances and offsets say, ``(residues, neighbours, 466)``."""
    neighbours: Tensor
    """Residues, nearest first, ``(residues, neighbours)``."""
    sequence: Tensor
    """Positions in ``LETTERS``, ``(residues,)``."""
    earlier: Tensor
    """1 where a neighbour is decoded earlier than the residue, ``(residues, neighbours, 1)``."""


def read_proteins(names: Iterable[str]) -> list[Protein]:
    """Chains of known structures.

    Raises:
        UnavailableError: a package they are in cannot be had, or not be opened.
    """
    return [featurise(*parse(_file(*STRUCTURES[n][:2]), STRUCTURES[n][2])) for n in names]


def _file(package: Package, member: str) -> str:
    command = ["dpkg-deb", "--fsys-tarfile", str(package.fetch())]
    try:
        unpacked = subprocess.run(command, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise UnavailableError(f"{package.file} cannot be opened: {error}") from error
    with tarfile.open(fileobj=io.BytesIO(unpacked)) as archive:
        found = archive.extractfile(member)
        assert found is not None, member
        return found.read().decode("ascii", errors="replace")


def parse(text: str, chain: str) -> tuple[Tensor, Tensor, Tensor]:
    """Backbones ``(residues, 4, 3)``, sequence and numbers of the residues of one chain.

    Residues that lack an atom of the backbone, or are none of the twenty, are left out; of atoms in
    two places the first counts.
    """
    residues: dict[tuple[int, str], tuple[str, dict[str, list[float]]]] = {}
    for line in text.splitlines():
        if line.startswith("ENDMDL"):
            break
        if not line.startswith("ATOM"):
            continue
        atom, kind, given = line[12:16].strip(), line[17:20], line[21].strip()
        chain = chain or given
        if given == chain and atom in BACKBONE and kind in RESIDUES:
            key = (int(line[22:26]), line[26])
            _, atoms = residues.setdefault(key, (kind, {}))
            atoms.setdefault(atom, [float(line[k : k + 8]) for k in (30, 38, 46)])
    whole = {key: found for key, found in residues.items() if len(found[1]) == len(BACKBONE)}
    places = torch.tensor([[atoms[a] for a in BACKBONE] for _, atoms in whole.values()])
    sequence = torch.tensor([RESIDUES.index(kind) for kind, _ in whole.values()])
    return places, sequence, torch.tensor([number for number, _ in whole])


def featurise(places: Tensor, sequence: Tensor, numbers: Tensor) -> Protein:
    """The graph of one chain, its residues decoded in a random order that is always the same.

    Args:
        places: of the backbone's atoms, in Angstrom, ``(residues, 4, 3)``.
        sequence: positions in ``LETTERS``, ``(residues,)``.
        numbers: of the residues along the chain, ``(residues,)``.
    """
    n, ca, c, o = places.unbind(1)
    along, out = ca - n, c - ca
    across = torch.linalg.cross(along, out)
    cb = -0.58273431 * across + 0.56802827 * along - 0.54067466 * out + ca
    atoms = {"N": n, "CA": ca, "C": c, "O": o, "CB": cb}
    count = min(NEIGHBOURS, len(places))
    neighbours = _apart(ca, ca).topk(count, largest=False).indices
    told = []
    for pair in PAIRS:
        one, other = pair.split("-")
        apart = _apart(atoms[one], atoms[other]).gather(1, neighbours)
        told.append(torch.exp(-(((apart[..., None] - DISTANCES) / BELL) ** 2)))
    offsets = (numbers[:, None] - numbers).gather(1, neighbours)
    offsets = (offsets + LONGEST_OFFSET).clamp(0, 2 * LONGEST_OFFSET)
    positions = F.one_hot(offsets, 2 * LONGEST_OFFSET + 2).float()  # the last is for other chains
    order = torch.randperm(len(places), generator=torch.Generator().manual_seed(0)).argsort()
    earlier = (order[neighbours] < order[:, None])[..., None].float()
    return Protein(torch.cat([positions, *told], -1), neighbours, sequence, earlier)


def _apart(one: Tensor, other: Tensor) -> Tensor:
    return ((one[:, None] - other).square().sum(-1) + 1e-6).sqrt()
