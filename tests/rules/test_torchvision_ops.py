"""The rules of torchvision's ops, which not every installation has; where they look is legal."""

from __future__ import annotations

import pytest
from rule_samples import Sample
from torchvision_samples import SAMPLES

from fxrebasin.rules.table import OTHER_LIBRARIES
from fxrebasin.testing.check import RuleCheck, check_rule


def checked(sample: Sample) -> RuleCheck:
    rule = OTHER_LIBRARIES[sample.op._qualified_op_name]
    return check_rule(sample.stand_in or sample.op, *sample.args, rule=rule, complete=False)


def samples_of(name: str) -> list[Sample]:
    return [sample for sample in SAMPLES if sample.op._qualified_op_name == f"torchvision::{name}"]


def test_every_rule_has_a_sample() -> None:
    assert {sample.op._qualified_op_name for sample in SAMPLES} == set(OTHER_LIBRARIES)


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_a_rule_allows_nothing_that_its_op_does_not(sample: Sample) -> None:
    check = checked(sample)
    assert check.sound, str(check)


@pytest.mark.parametrize("name", ["roi_align", "roi_pool"])
def test_channels_of_regions_move(name: str) -> None:
    (sample,) = samples_of(name)
    moved = {axis for block in checked(sample).symmetry for axis in block.axes}
    assert {("x", 1)} < moved


def test_channels_of_deformed_convolutions_move() -> None:
    blocks = [set(block.axes) for block in checked(samples_of("deform_conv2d")[0]).symmetry]
    assert {("input", 1), ("weight", 1)} in blocks
    assert {("weight", 0), ("bias", 0), ("result", 1)} in blocks
