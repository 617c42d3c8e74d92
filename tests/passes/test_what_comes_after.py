"""What an emitted module goes through: compilers, exporters, quantisers, copies, wrappers."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.ao.quantization
import torch.distributed
from small_convolutional import Net, X
from torch import Tensor, fx, nn
from torch.func import functional_call

import fxrebasin as fr

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore")


@cache
def emitted(front_end: fr.FrontEnd) -> tuple[nn.Module, Tensor]:
    """A module that was aligned, and what it should return."""
    a, b = Net(0).eval(), Net(1).eval()
    symmetry = fr.analyze(b, (X,), front_ends=[front_end])
    aligned = fr.rebasin(b, to=a, args=(X,), symmetry=symmetry, progress=False)
    assert isinstance(aligned, fx.GraphModule) == (front_end != "eager")
    return aligned, b(X).detach()


def compiled(module: nn.Module, folder: Path) -> Any:
    return torch.compile(module, backend="aot_eager", fullgraph=True)(X)


def compiled_by_inductor(module: nn.Module, folder: Path) -> Any:
    return torch.compile(module)(X)


def exported(module: nn.Module, folder: Path) -> Any:
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(module, (X,)), buffer)
    buffer.seek(0)
    return torch.export.load(buffer).module()(X)


def packaged(module: nn.Module, folder: Path) -> Any:
    program = torch.export.export(module, (X,))
    path = str(folder / "model.pt2")
    torch._inductor.aoti_compile_and_package(program, package_path=path)
    return torch._inductor.aoti_load_package(path)(X)


def traced_by_jit(module: nn.Module, folder: Path) -> Any:
    return torch.jit.trace(module, (X,))(X)


def traced_by_fx(module: nn.Module, folder: Path) -> Any:
    return fx.symbolic_trace(module)(X)


def as_onnx(module: nn.Module, folder: Path) -> Any:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    program = torch.onnx.export(module, (X,), dynamo=True, verbose=False)
    assert program is not None
    (output,) = program(X)
    return torch.as_tensor(output)


def as_a_function(module: nn.Module, folder: Path) -> Any:
    return functional_call(module, dict(module.named_parameters()), (X,))


def pickled(module: nn.Module, folder: Path) -> Any:
    return pickle.loads(pickle.dumps(module))(X)


def saved(module: nn.Module, folder: Path) -> Any:
    torch.save(module, folder / "module.pt")
    return torch.load(folder / "module.pt", weights_only=False)(X)


def copied(module: nn.Module, folder: Path) -> Any:
    return copy.deepcopy(module)(X)


def in_double(module: nn.Module, folder: Path) -> Any:
    return copy.deepcopy(module).double()(X.double()).float()


def distributed(module: nn.Module, folder: Path) -> Any:
    store = torch._C._distributed_c10d.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        return nn.parallel.DistributedDataParallel(module)(X)
    finally:
        torch.distributed.destroy_process_group()


EXACT: list[Any] = [
    *(compiled, exported, traced_by_jit, traced_by_fx, as_onnx, as_a_function, pickled, saved),
    *(copied, in_double, distributed),
    *(pytest.param(slow, marks=pytest.mark.slow) for slow in (compiled_by_inductor, packaged)),
]
FRONT_ENDS: tuple[fr.FrontEnd, ...] = ("symbolic_trace", "export", "eager")


@pytest.mark.parametrize("front_end", FRONT_ENDS)
@pytest.mark.parametrize("through", EXACT)
def test_what_an_emitted_module_goes_through(
    front_end: fr.FrontEnd, through: Callable[[nn.Module, Path], Any], tmp_path: Path
) -> None:
    module, expected = emitted(front_end)
    torch.testing.assert_close(through(module, tmp_path), expected, rtol=1e-4, atol=1e-5)


def dynamic_int8(module: nn.Module) -> Any:
    quantised: Any = torch.ao.quantization.quantize_dynamic(copy.deepcopy(module), {nn.Linear})
    return quantised(X)


def weights_of_int8(module: nn.Module) -> Any:
    quantisation = pytest.importorskip("torchao.quantization")
    quantised = copy.deepcopy(module)
    quantisation.quantize_(quantised, quantisation.Int8WeightOnlyConfig())
    return quantised(X)


@pytest.mark.parametrize("through", [dynamic_int8, weights_of_int8])
@pytest.mark.parametrize("front_end", ["symbolic_trace", "eager"])
def test_quantisers_that_know_modules(
    front_end: fr.FrontEnd, through: Callable[[nn.Module], Any]
) -> None:
    module, expected = emitted(front_end)
    torch.testing.assert_close(through(module), expected, rtol=0.05, atol=0.02)


def test_ops_of_an_exported_graph_are_not_for_quantisers_that_swap_modules() -> None:
    module, _ = emitted("export")
    with pytest.raises(RuntimeError, match="aten::linear"):
        dynamic_int8(module)


@pytest.mark.parametrize("front_end", ["symbolic_trace", "export"])
def test_graphs_are_not_for_jit_script(front_end: fr.FrontEnd) -> None:
    module, _ = emitted(front_end)
    with pytest.raises(RuntimeError):
        torch.jit.script(module)
