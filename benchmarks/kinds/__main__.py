"""How large are the groups that act on the blocks of models as they are used?

Every model is given random weights and analysed; its weights are made canonical, norms absorbed,
and a random element of the whole group acts on them: rotations, invertible matrices, signs, scales.
It must compute what it computed, in float64. As a control, one tensor of a few that are drawn at
random is left as it was. Each model runs in a process of its own; rows that passed are kept, and a
second run continues where the first one stopped.

    python -m benchmarks.kinds --models vit_b_16 gpt2
    python -m benchmarks.kinds --fresh --table benchmarks/kinds/kinds.md
"""

from __future__ import annotations

import sys

from benchmarks.coverage.sections import SECTIONS
from benchmarks.kinds.rows import CONTROLS, Row, measure
from benchmarks.measuring.kept_rows import add_options, measure_rows
from benchmarks.measuring.reporting import markdown_table, parser_of, provenance

CLASSIFIERS = """
alexnet convnext_tiny densenet121 efficientnet_b0 efficientnet_v2_s googlenet inception_v3 maxvit_t
mnasnet0_5 mobilenet_v2 mobilenet_v3_small regnet_x_400mf regnet_y_400mf resnet18 resnext50_32x4d
shufflenet_v2_x0_5 squeezenet1_1 swin_t swin_v2_t vgg11 vgg11_bn vit_b_32 wide_resnet50_2
"""
"""The smallest of every family."""

OF_TIMM = """
cait_xxs24_224 convit_tiny convmixer_768_32 convnextv2_atto crossvit_9_240
deit_tiny_distilled_patch16_224 edgenext_xx_small efficientvit_b0 eva02_tiny_patch14_224
fastvit_t8 ghostnet_050 gmixer_12_224 levit_128s mixer_s32_224 mobilenetv4_conv_small
mobilevit_xxs nfnet_l0 pit_ti_224 poolformer_s12 resmlp_12_224 starnet_s1 vit_tiny_patch16_224
xcit_nano_12_p16_224
"""

TITLES = {
    "classification": "torchvision: the smallest classifier of every family",
    "timm": "timm",
    "transformers": "transformers: tiny configurations",
}
MODELS = {
    "transformers": SECTIONS["transformers"].names(),
    "timm": OF_TIMM.split(),
    "classification": CLASSIFIERS.split(),
}

HEADER = (
    *("model", "kinds of its blocks", "larger than S", "dimension", "error", "control"),
    *("analysis (s)", "kinds (s)", "status"),
)
LEGEND = (
    "Larger than S: the share of units in blocks on which more than permutations act. Dimension: "
    "in how many independent directions elements of the group move, weights of norms that are "
    "absorbed included. Error: the largest change of an output under a random element of the whole "
    "group, relative to the largest entry of that output, in float64. Control: the same if one "
    f"tensor is left as it was: the median of {CONTROLS} drawn at random (some, such as biases "
    "before a norm, may be anything). `python -m benchmarks.kinds` measures this table."
)


def document(rows: list[Row]) -> str:
    """All sections as Markdown."""
    notes = provenance((row.commit for row in rows), (row.threads for row in rows))
    parts = ["# Kinds of blocks", f"{notes}\n{LEGEND}"]
    for key in MODELS:
        mine = [row for row in rows if row.section == key]
        if mine:
            passed = [row for row in mine if row.status == "ok"]
            worst = max((row.error for row in passed), default=float("nan"))
            line = f"{len(passed)} of {len(mine)} models pass; largest error {worst:.1e}."
            table = markdown_table(HEADER, [row.cells() for row in mine])
            parts += [f"## {TITLES[key]}", line, table]
    return "\n\n".join(parts) + "\n"


def main() -> int:
    parser = parser_of("kinds", __doc__)
    add_options(parser, "kinds", gibibytes=8, seconds=600)
    models = ((key, name) for key, names in MODELS.items() for name in names)
    return measure_rows(parser, parser.parse_args(), models, Row, measure, document)


if __name__ == "__main__":
    sys.exit(main())
