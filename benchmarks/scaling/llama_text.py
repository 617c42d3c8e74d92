"""What is said of a model that is too large to measure; every figure is computed."""

from __future__ import annotations

from benchmarks.measuring.reporting import markdown_table
from benchmarks.scaling.extrapolation import SPARSE_FROM, Estimate, Extrapolation, Gpu
from benchmarks.scaling.llama import BFLOAT16, FLOAT32, Block, Llama

BLOCKS = (
    *("blocks", "count", "units", "cost matrix", "products (TFLOP)", "problems", "rows of each"),
    *("s per problem", "all problems (s)"),
)
ESTIMATES = ("one sweep", "products", "assignment", "evaluation", "rest", "total", "most in")


def section(found: Extrapolation, gpu: Gpu) -> str:
    """Markdown."""
    model = found.model
    cpu, modelled = found.on_cpu(), found.on_gpu(gpu)
    parts = [
        f"## A Llama-like model of {model.parameters / 1e9:.1f} billion parameters: extrapolated",
        _assumptions(found),
        markdown_table(BLOCKS, [_block(block, found) for block in model.blocks]),
        markdown_table(
            ESTIMATES,
            [
                _estimate("this CPU, extrapolated", cpu),
                _estimate(f"{gpu.name} and this CPU, modelled", modelled),
            ],
        ),
        "\n".join(f"* {text}" for text in (*_memory(found), _streaming(model), _dominance(cpu))),
        _on_gpu(found, gpu, cpu, modelled),
    ]
    return "\n\n".join(parts)


def _assumptions(found: Extrapolation) -> str:
    model, row = found.model, found.largest
    largest = max(found.measured)
    return (
        f"Nothing here was measured. Hidden size {model.hidden:,}, {model.layers} layers, MLPs of "
        f"{model.intermediate:,}, {model.heads} heads, {model.vocabulary:,} tokens. A sweep is "
        f"taken to compute every cost matrix in full and to solve every problem once, "
        f"{model.flops / 1e12:,.0f} TFLOP of products; later sweeps only multiply what moved, and "
        "how many it takes depends on the weights. Products, evaluation and rest run at the rates "
        f"of the largest measured run ({row.title}, width {row.width:,}, depth "
        f"{row.depth}): {found.rate / 1e9:,.0f} GFLOP/s, and "
        f"{row.evaluation / row.parameters * 1e9:.1f} and "
        f"{row.rest / row.parameters * 1e9:.1f} ns per parameter, those of "
        "the whole run, set-up included. Assignment problems were "
        f"measured up to n = {largest:,} ({found.measured[largest]:.2f} s each), and grow from "
        f"there as n^{found.law.exponent:.2f}, fitted to sizes from {SPARSE_FROM} on; smaller ones "
        "are read off between measured sizes. Those were costs of random weights; costs of trained "
        "weights may be harder or easier."
    )


def _block(block: Block, found: Extrapolation) -> tuple[str, ...]:
    seconds = found.seconds_to_solve(block.size)
    problems = block.count * block.batch
    return (
        *(block.name, f"{block.count}", f"{block.units:,}", _size(block.nbytes)),
        *(f"{block.flops / 1e12:,.2f}", f"{problems:,}", f"{block.size:,}"),
        *(f"{seconds:.2g}", f"{problems * seconds:,.1f}"),
    )


def _estimate(where: str, estimate: Estimate) -> tuple[str, ...]:
    steps = (estimate.products, estimate.assignment, estimate.evaluation, estimate.rest)
    times = [_time(seconds) for seconds in (*steps, estimate.total)]
    return (where, *times, estimate.dominant)


def _memory(found: Extrapolation) -> tuple[str, str]:
    model, row = found.model, found.largest
    both = 2 * FLOAT32 * model.parameters
    widest = max(model.blocks, key=lambda block: block.nbytes)
    kept = "all kept" if model.matrix_bytes <= both else "kept as far as that reaches"
    growth = row.memory / row.matrix_bytes
    return (
        f"Resident: both models in float32, {_size(both)}; in bfloat16 they would take "
        f"{_size(2 * BFLOAT16 * model.parameters)}, but are computed in float32 copies, so that "
        f"models loaded in bfloat16 take {_size(both + 2 * BFLOAT16 * model.parameters)} together.",
        f"The largest cost matrix, {widest.units:,} x {widest.units:,} in float32, takes "
        f"{_size(widest.nbytes)}. All of them take {_size(model.matrix_bytes)}, and since cost "
        f"matrices may take as much as both models, they are {kept}. In the largest run, the "
        f"process grew by {growth:.2f} times its cost matrices; here that would be "
        f"{_size(growth * model.matrix_bytes)}.",
    )


def _streaming(model: Llama) -> str:
    layer = 2 * model.layer_parameters
    widest = max(block.nbytes for block in model.blocks)
    stream = model.blocks[0].nbytes
    return (
        "What could stream: a product needs one tensor of each model and its cost matrix. The "
        "blocks inside a layer depend on that layer only, and the residual stream adds up the "
        f"layers one by one; so one layer of both models ({_size(layer * FLOAT32)} in float32, "
        f"{_size(layer * BFLOAT16)} in bfloat16), the matrix of the MLP at hand ({_size(widest)}) "
        f"and that of the residual stream ({_size(stream)}) are enough. Each pass over the layers "
        f"then reads both models once, {_size(2 * BFLOAT16 * model.parameters)} in bfloat16. "
        "The library does not stream."
    )


def _dominance(cpu: Estimate) -> str:
    part = getattr(cpu, cpu.dominant) / cpu.total
    return f"On this CPU, most of a sweep is {cpu.dominant}, {part:.0%}."


def _on_gpu(found: Extrapolation, gpu: Gpu, cpu: Estimate, modelled: Estimate) -> str:
    model = found.model
    both = 2 * FLOAT32 * model.parameters
    return (
        f"**A GPU, as a model**, not a measurement: an {gpu.name}, of whose "
        f"{gpu.flops / 1e12:.0f} TFLOP/s (float32), {gpu.bandwidth / 1e12:.2f} TB/s of memory and "
        f"{gpu.link / 1e9:.0f} GB/s to the host {gpu.share:.0%} are taken to be reached. Products "
        f"would take {_time(modelled.products)} instead of {_time(cpu.products)}. Cost matrices "
        f"travel to the host ({_size(model.matrix_bytes)}, {_time(modelled.rest)}, the rest of the "
        f"second line, checks of the weights left out), where assignment goes on to take "
        f"{_time(modelled.assignment)}: "
        f"{modelled.assignment / modelled.total:.0%} of what is left, so that the whole is "
        f"{cpu.total / modelled.total:.1f} times as fast. The library does better: problems of up "
        f"to 4,096 rows are solved on the device where Triton is, and of larger ones only the few "
        f"entries that matter travel. This model leaves both out; "
        f"`benchmarks/accelerator/accelerator.md` has them measured, and two such layers aligned. "
        f"Both models and all cost matrices would take {_size(both + model.matrix_bytes)} of its "
        f"memory."
    )


def _size(nbytes: float) -> str:
    return f"{nbytes / 1e9:,.1f} GB" if nbytes >= 1e9 else f"{nbytes / 1e6:,.3g} MB"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
