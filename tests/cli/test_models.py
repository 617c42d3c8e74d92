"""What MODEL names is made, with inputs that it runs on."""

from __future__ import annotations

import math

import pytest
import torch

from fxrebasin.cli.models import subject_of
from fxrebasin.cli.options import Example
from fxrebasin.cli.output import Answer, Output
from fxrebasin.errors import InvalidArgumentError


def test_a_model_of_torchvision_with_options() -> None:
    subject = subject_of("torchvision:squeezenet1_1,num_classes=3", Example(input=["2,3,64,64"]))
    assert subject.module(*subject.args).shape == (2, 3)
    assert not subject.module.training


def test_a_model_of_timm_with_the_size_that_it_names() -> None:
    pytest.importorskip("timm")
    subject = subject_of("timm:test_resnet,num_classes=3", Example(dtype="float64"))
    (image,) = subject.args
    assert image.dtype == torch.float64 and image.shape[-1] != 224
    assert subject.module(image).shape == (1, 3)


def test_an_option_that_a_constructor_does_not_know_is_named() -> None:
    with pytest.raises(InvalidArgumentError, match="unexpected keyword argument 'hight'"):
        subject_of("torchvision:resnet18,hight=3", Example())


def test_a_model_is_made_in_the_type_that_is_asked_for() -> None:
    subject = subject_of("torchvision:squeezenet1_1", Example(dtype="bfloat16"))
    assert {p.dtype for p in subject.module.parameters()} == {torch.bfloat16}
    assert subject.args[0].dtype == torch.bfloat16


def test_what_json_has_no_number_for_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    Output(json=True).give(Answer({"a": math.nan, "b": [math.inf, 1.5]}))
    assert '"a": null' in capsys.readouterr().out
