"""``fxrebasin doctor``: what there is to work with."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from importlib.util import find_spec

import torch
from rich.table import Table

import fxrebasin as fr

from .output import Answer, Output

EXTRAS = {
    "cli": ("typer", "rich"),
    "plot": ("matplotlib",),
    "demo": ("scikit-learn",),
    "models": ("torchvision", "timm", "transformers", "safetensors"),
}


def doctor(*, output: Output) -> Answer:
    """Show versions, devices, threads and which optional packages are there."""
    rows = {
        "fxrebasin": fr.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "processor": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} "
        "threads of torch",
        "devices": ", ".join(_devices()) or "none but the processor",
        "triton": "yes" if find_spec("triton") else "no",
    }
    packages = {name: _version(name) for names in EXTRAS.values() for name in names}
    table = Table("what", "found", box=None, pad_edge=False)
    for name, text in rows.items():
        table.add_row(name, text)
    for extra, names in EXTRAS.items():
        for name in names:
            missing = f"missing; pip install 'fxrebasin[{extra}]'"
            absent = f"missing; pip install {name}" if extra == "models" else missing
            table.add_row(name, packages[name] or absent)
    return Answer({**rows, "packages": packages}, (table,))


def _devices() -> list[str]:
    found = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
    return [*found, "mps"] if torch.backends.mps.is_available() else found


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
