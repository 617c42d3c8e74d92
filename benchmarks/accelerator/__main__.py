"""What does an accelerator change: assignment problems, and whole alignments, on it and beside it?

Assignment: `scipy` gets the matrices one by one in the memory of the processor, which is where it
needs them; copying them there is timed as well, as it would have to be done. The engines get
matrices that are on the device. Alignment: the same two networks, on the processor with all its
threads, and on the device; ``llama`` is a few layers of a Llama of 6.7 billion parameters.

    python -m benchmarks.accelerator --device cuda --table benchmarks/accelerator/accelerator.md
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

import fxrebasin as fr
from benchmarks.align.checkpoints import Pair, gain, random_pair
from benchmarks.assignment.kinds import matrix
from benchmarks.measuring.random_weights import randomise_deep
from benchmarks.measuring.reporting import (
    commit,
    markdown_table,
    parser_of,
    provenance,
    write_atomically,
)
from benchmarks.scaling.llama import Llama
from fxrebasin.assignment import assign, solve_on_device, solve_sparse

SHAPES = (
    *((1024, 8), (144, 64), (12, 64), (1, 64), (16, 256), (1, 256), (8, 512), (1, 512)),
    *((1, 1024), (1, 1536), (1, 2048), (1, 3072), (1, 4096), (1, 8192)),
)
KINDS = ("gauss", "copy1", "lowr", "spec", "rank8")
LARGE_KINDS = ("gauss", "lowr", "spec")
LARGE = 3072
LONGEST_ON_DEVICE = 4096
SCIPY_UP_TO = 4096
MODELS = ("mlp", "resnet18", "resnet50", "vit_b_16", "llama")
LLAMA = Llama(layers=2)
LONG = 20.0
"""Seconds from which on a first run is not repeated."""
ASSIGNMENT_HEADER = (
    *("kind", "batch", "n", "product (ms)", "scipy (ms)", "copy (ms)", "augmenting paths (ms)"),
    *("sparse (ms)", "chosen", "ratio", "unchanged (ms)", "gap"),
)
ALIGNMENT_HEADER = (
    *("model", "where", "parameters", "blocks", "discovery (s)", "solve (s)", "sweeps"),
    *("gained", "ratio"),
)


class Timer:
    """Medians of runs on a device, which is waited for."""

    def __init__(self, device: torch.device, runs: int, budget: float) -> None:
        self.device, self.runs, self.budget = device, runs, budget

    def seconds(self, run: Callable[[], object]) -> float:
        self._wait()
        start = time.perf_counter()
        run()
        self._wait()
        return time.perf_counter() - start

    def medians(self, tasks: Sequence[Callable[[], object]]) -> list[float]:
        """Of tasks that take turns; a first run of each is not counted, unless it is long."""
        first = [self.seconds(task) for task in tasks]
        if sum(first) > LONG:
            return first
        rounds: list[list[float]] = []
        while not rounds or (len(rounds) < self.runs and sum(map(sum, rounds)) < self.budget):
            rounds.append([self.seconds(task) for task in tasks])
        return [float(np.median(column)) for column in zip(*rounds, strict=True)]

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def problems(kind: str, batch: int, n: int) -> Tensor:
    return torch.stack([torch.from_numpy(matrix(kind, n, seed=s)) for s in range(batch)])


def solve_by_scipy(costs: Tensor) -> None:
    for one in costs.cpu().numpy():
        linear_sum_assignment(one, maximize=True)


def assignment_rows(timer: Timer, shapes: Sequence[tuple[int, int]]) -> Iterator[tuple[str, ...]]:
    for batch, n in shapes:
        for kind in KINDS if n < LARGE else LARGE_KINDS:
            costs = problems(kind, batch, n).to(timer.device)
            solved = assign(costs, certify=True)
            slow = kind == "spec" and n >= LARGE
            tasks: dict[str, Callable[[], object]] = {
                "chosen": functools.partial(assign, costs),
                "unchanged": functools.partial(assign, costs, warm=solved),
                "copy": lambda: costs.cpu(),  # noqa: B023 - called before the next turn
                "product": functools.partial(torch.bmm, costs, costs.mT),
            }
            if n <= LONGEST_ON_DEVICE and not slow:
                tasks["paths"] = functools.partial(solve_on_device, costs)
            if n >= 512:
                tasks["sparse"] = functools.partial(solve_sparse, costs)
            if n <= SCIPY_UP_TO and not slow:
                tasks["scipy"] = functools.partial(solve_by_scipy, costs)
            found = dict(zip(tasks, timer.medians(list(tasks.values())), strict=True))
            assert solved.gap is not None
            gap = float((solved.gap / solved.value.abs().clamp(min=1e-300)).max())
            yield (
                kind,
                f"{batch:,}",
                f"{n:,}",
                f"{1e3 * found['product']:.2f}",
                _milliseconds(found.get("scipy")),
                f"{1e3 * found['copy']:.2f}",
                _milliseconds(found.get("paths")),
                _milliseconds(found.get("sparse")),
                f"{1e3 * found['chosen']:.2f}",
                f"{found['scipy'] / found['chosen']:.1f} x" if "scipy" in found else "",
                f"{1e3 * found['unchanged']:.2f}",
                f"{gap:.0e}",
            )


def llama_pair(size: Llama, device: torch.device) -> Pair:
    """Two decoders on a device that have nothing in common, and four tokens."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        intermediate_size=size.intermediate,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        use_cache=False,
    )
    tokens = torch.arange(4, device=device)[None]

    def one(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        with device:
            model = LlamaForCausalLM(config).eval()
        randomise_deep(model, tokens)
        return model

    return Pair(one(1), one(2), tokens)


def alignment_rows(timer: Timer, names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for name in names:
        pair = llama_pair(LLAMA, timer.device) if name == "llama" else random_pair(name)
        start = time.perf_counter()
        symmetry = fr.analyze(pair.b, args=(pair.inputs,))
        discovery = time.perf_counter() - start
        pair = Pair(pair.a.cpu(), pair.b.cpu(), pair.inputs)
        host: float | None = None
        for where in dict.fromkeys((torch.device("cpu"), timer.device)):
            a, b = (
                {k: t.to(where) for k, t in model.state_dict().items()}
                for model in (pair.a, pair.b)
            )
            found: list[fr.Alignment] = []
            (seconds,) = timer.medians(
                [lambda: found.append(fr.weight_matching(symmetry, b, to=a, progress=False))]  # noqa: B023 - called before the next turn
            )
            host = host or seconds
            moved = {k: t.cpu() for k, t in found[-1].permutation.apply(b).items()}
            yield (
                name,
                str(where),
                f"{sum(p.numel() for p in pair.b.parameters()):,}",
                f"{symmetry.block_count:,}",
                f"{discovery:.2f}",
                f"{seconds:.3f}",
                f"{found[-1].sweeps}",
                f"{gain(pair, moved):,.1f}",
                f"{host / seconds:.1f} x",
            )


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{1e3 * seconds:.2f}"


def page(device: torch.device, options: argparse.Namespace, tables: Sequence[str]) -> str:
    named = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    return (
        "# On an accelerator\n\n"
        f"{provenance([commit()], [torch.get_num_threads()])} The accelerator: {named}.\n"
        f"Medians of up to {options.runs} runs in turn after one that does not count, fewer where "
        f"{options.budget:g} s have passed, and that one where it took {LONG:g} s; the device is "
        f"waited for. The Llama has {LLAMA.layers} layers of the size of those of a model of 6.7 "
        "billion parameters, and is analysed on the device. Matrices are float32 and on "
        "the device. Product: multiplying them with matrices of their size. Scipy: "
        "`linear_sum_assignment(costs, maximize=True)` on all of the batch, one after another, "
        "copying them to the processor (copy) included. Augmenting paths and sparse: the two "
        "engines for a device. Chosen: what `assign` takes; ratio: how many times faster than "
        "scipy. Unchanged: the same again, from its own solution. Gap: certified, relative to the "
        "value. `python -m benchmarks.accelerator` measures these tables.\n\n"
        + "\n\n".join(tables)
        + "\n"
    )


def main() -> int:
    parser = parser_of("accelerator", __doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--sizes", nargs="*", type=int, help="of the assignment problems")
    parser.add_argument("--models", nargs="*", default=MODELS, help="to align")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--budget", type=float, default=2.0, help="seconds per row")
    parser.add_argument("--table", type=Path, help="write the Markdown tables here")
    options = parser.parse_args()

    device = torch.device(options.device)
    timer = Timer(device, options.runs, options.budget)
    shapes = [s for s in SHAPES if options.sizes is None or s[1] in options.sizes]
    solved: list[tuple[str, ...]] = []
    aligned: list[tuple[str, ...]] = []
    for header, rows, source in (
        (ALIGNMENT_HEADER, aligned, alignment_rows(timer, options.models)),
        (ASSIGNMENT_HEADER, solved, assignment_rows(timer, shapes)),
    ):
        for row in source:
            rows.append(row)
            print(*(f"{h} {c}" for h, c in zip(header, row, strict=True)), sep=", ", flush=True)
            if options.table:
                tables = [
                    markdown_table(h, r)
                    for h, r in ((ALIGNMENT_HEADER, aligned), (ASSIGNMENT_HEADER, solved))
                    if r
                ]
                write_atomically(options.table, page(device, options, tables))
    return 0


if __name__ == "__main__":
    sys.exit(main())
