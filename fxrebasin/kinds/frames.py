"""Frames: where the units of a block lie on the axes of one value, and how those are related.

A symmetry gives every frame an invertible matrix that acts along it. What ops say of these is
kept here: that two frames have the same matrix, or one the inverse transpose of the other's
(:meth:`Frames.tie`); that a matrix is in a smaller group (:meth:`Frames.cap`); and, of matrices
that only scale, how much each scales (:meth:`Frames.equate`).

>>> from fxrebasin.symmetry.kinds import POSITIVE
>>> frames = Frames()
>>> x, weight, y = (frames.new("hidden") for _ in range(3))
>>> frames.tie(x, weight, -1), frames.tie(x, y, 1)  # contracted, and added
(None, None)
>>> frames.cap(y, POSITIVE, "relu", "act")
>>> frames.kind(weight).name, frames.find(weight) == (frames.find(x)[0], -1)
('positive monomial', True)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from ..symmetry.kinds import LINEAR, MONOMIAL, ORTHOGONAL, PERMUTATIONS, Cap, Kind


class Frames:
    """A union-find of frames with parity, and linear equations on their scales and signs."""

    def __init__(self) -> None:
        self.blocks: list[str] = []
        """Per frame, the block that lies there."""
        self.scales: list[dict[int, Fraction]] = []
        """Sums of multiples of the logarithms of frames' scales that are zero."""
        self.signs: list[set[int]] = []
        """Frames whose signs have the product one."""
        self._parent: list[int] = []
        self._parity: list[int] = []
        self._kind: list[Kind] = []
        self._caps: list[list[Cap]] = []

    def new(self, block: str) -> int:
        """A frame that nothing is known of."""
        self.blocks.append(block)
        self._parent.append(len(self._parent))
        self._parity.append(1)
        self._kind.append(LINEAR)
        self._caps.append([])
        return len(self._parent) - 1

    def find(self, frame: int) -> tuple[int, int]:
        """The frame that stands for those tied to one, and 1, or -1 if it is dual to that."""
        path, parity = [], 1
        while self._parent[frame] != frame:
            path.append(frame)
            frame = self._parent[frame]
        for one in reversed(path):
            parity *= self._parity[one]
            self._parent[one], self._parity[one] = frame, parity
        return frame, parity

    def tie(self, one: int, other: int, parity: int, op: str = "", node: str = "") -> None:
        """The same matrix acts on both; if the parity is -1, its inverse transpose on the other."""
        (a, p), (b, q) = self.find(one), self.find(other)
        if a == b:
            if p * q != parity:
                self.cap(a, ORTHOGONAL, f"{op}, in which it meets its own dual,", node)
                self.fix_scale(a)
            return
        self._parent[b], self._parity[b] = a, p * q * parity
        self._kind[a] = self._kind[a].meet(self._kind[b])
        self._caps[a] += self._caps[b]

    def cap(self, frame: int, kind: Kind, op: str, node: str) -> None:
        """Its matrix is of this kind."""
        root, _ = self.find(frame)
        smaller = self._kind[root].meet(kind)
        if smaller != self._kind[root]:
            self._kind[root] = smaller
            self._caps[root].append(Cap(kind, op, node))

    def permute_only(self, frame: int, op: str, node: str) -> None:
        """Its matrix permutes: the default for whatever is not understood."""
        self.cap(frame, PERMUTATIONS, op, node)
        self.fix_scale(frame)
        self.fix_sign(frame)

    def multiply(self, terms: Sequence[tuple[int, int]], op: str, node: str) -> None:
        """Frames of units that meet one by one: their scales, to the powers given, multiply to one,
        and so do their signs."""
        for frame, _ in terms:
            self.cap(frame, MONOMIAL, op, node)
        self.equate([(frame, Fraction(power)) for frame, power in terms])
        self.cancel([frame for frame, power in terms if power % 2])

    def equate(self, terms: Sequence[tuple[int, Fraction]]) -> None:
        """The logarithms of the scales of frames, times these numbers, add up to zero."""
        total: dict[int, Fraction] = {}
        for frame, power in terms:
            total[frame] = total.get(frame, Fraction(0)) + power
        self.scales.append(total)

    def cancel(self, frames: Sequence[int]) -> None:
        """The signs of frames multiply to one."""
        total: set[int] = set()
        for frame in frames:
            total ^= {frame}
        self.signs.append(total)

    def fix_scale(self, frame: int) -> None:
        self.equate([(frame, Fraction(1))])

    def fix_sign(self, frame: int) -> None:
        self.cancel([frame])

    def kind(self, frame: int) -> Kind:
        """What its matrix may be, by what was said so far."""
        return self._kind[self.find(frame)[0]]

    def caps(self, frame: int) -> list[Cap]:
        """What was said that made its kind smaller."""
        return self._caps[self.find(frame)[0]]

    def by_roots(self) -> Mapping[str, tuple[list[dict[int, Fraction]], list[set[int]]]]:
        """Per block, the equations on scales and on signs, of frames that stand for others.

        The scale of a dual frame is the inverse; its sign is the same.
        """
        found: dict[str, tuple[list[dict[int, Fraction]], list[set[int]]]] = {}
        for terms in self.scales:
            total: dict[int, Fraction] = {}
            for frame, power in terms.items():
                root, parity = self.find(frame)
                total[root] = total.get(root, Fraction(0)) + parity * power
            nonzero = {root: power for root, power in total.items() if power}
            for root in list(nonzero)[:1]:
                found.setdefault(self.blocks[root], ([], []))[0].append(nonzero)
        for frames in self.signs:
            odd: set[int] = set()
            for frame in frames:
                odd ^= {self.find(frame)[0]}
            for root in list(odd)[:1]:
                found.setdefault(self.blocks[root], ([], []))[1].append(odd)
        return found
