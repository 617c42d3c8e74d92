"""What is shipped: the wheel, the version, the examples in the docstrings."""

from __future__ import annotations

import doctest
import importlib
import os
import pkgutil
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
import torch

import fxrebasin

_ROOT = Path(__file__).resolve().parents[2]
_MODULES = sorted(
    module.name for module in pkgutil.walk_packages(fxrebasin.__path__, prefix="fxrebasin.")
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Build the wheel from a copy of the whole tree, without the network."""
    scratch = tmp_path_factory.mktemp("wheel")
    leave_out = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "venv", "__pycache__")
    shutil.copytree(_ROOT, scratch / "source", symlinks=True, ignore=leave_out)
    # The backend itself, as pip would call it: no pip, no isolated environment to fill.
    code = "from setuptools.build_meta import build_wheel; build_wheel('..')"
    subprocess.run(
        [sys.executable, "-c", code], cwd=scratch / "source", check=True, capture_output=True
    )
    (built,) = scratch.glob("*.whl")
    return zipfile.ZipFile(built)


def test_the_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    top = {name.split("/")[0] for name in names}
    assert top == {"fxrebasin", f"fxrebasin-{fxrebasin.__version__}.dist-info"}
    sources = {str(path.relative_to(_ROOT)) for path in (_ROOT / "fxrebasin").rglob("*.py")}
    packed = {name for name in names if name.startswith("fxrebasin/")}
    assert packed == sources | {"fxrebasin/py.typed"}
    assert any(name.startswith("fxrebasin/passes/") for name in packed)


def test_the_wheel_names_its_version_licence_and_program(wheel: zipfile.ZipFile) -> None:
    folder = f"fxrebasin-{fxrebasin.__version__}.dist-info"
    metadata = Parser().parsestr(wheel.read(f"{folder}/METADATA").decode())
    assert metadata["Name"] == "fxrebasin"
    assert metadata["Version"] == fxrebasin.__version__
    assert metadata["License-Expression"] == "MIT"
    assert f"{folder}/licenses/LICENSE" in wheel.namelist()
    assert {*metadata.get_all("Provides-Extra", [])} == {
        "cli",
        "plot",
        "demo",
        "test",
        "bench",
        "docs",
        "dev",
    }
    assert (
        "fxrebasin = fxrebasin.cli.main:main" in wheel.read(f"{folder}/entry_points.txt").decode()
    )


def test_the_link_passes_leads_into_the_package() -> None:
    link = _ROOT / "passes"
    if not link.is_symlink() and link.is_file():
        pytest.skip("this checkout was made without symbolic links")
    assert link.resolve() == _ROOT / "fxrebasin" / "passes"


@pytest.mark.skipif(
    "FXREBASIN_TEST_INSTALLED" not in os.environ, reason="only said of an installed wheel"
)
def test_the_package_under_test_is_the_installed_one() -> None:
    assert fxrebasin.__file__ is not None
    assert "site-packages" in Path(fxrebasin.__file__).parts


@pytest.mark.parametrize("name", _MODULES)
def test_examples_in_docstrings_run(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    module = importlib.import_module(name)
    assert doctest.testmod(module).failed == 0
