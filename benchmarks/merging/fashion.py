"""Fashion-MNIST: 60,000 images of clothes to train on, 10,000 to test.

Source: H. Xiao, K. Rasul and R. Vollgraf, "Fashion-MNIST", arXiv 1708.07747 (2017).
"""

from __future__ import annotations

import gzip
import io
import subprocess
import tarfile
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.merging.packages import FASHION, UnavailableError

FOLDER = "./usr/share/datasets/fashion-mnist"
PARTS = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")


@dataclass(frozen=True, eq=False)
class Images:
    """Images ``(n, 1, height, width)``, standardised, and labels ``(n,)``."""

    images: Tensor
    labels: Tensor

    def first(self, count: int) -> Images:
        """As many of them, which are as random as the rest: neither part is sorted."""
        return Images(self.images[:count], self.labels[:count])


@dataclass(frozen=True, eq=False)
class Data:
    """What is trained on, and what no network has seen."""

    train: Images
    test: Images

    def halved(self) -> Data:
        """With images of half the height and width, means of four pixels each."""
        train, test = (Images(F.avg_pool2d(x.images, 2), x.labels) for x in (self.train, self.test))
        return Data(train, test)


@cache
def load_fashion() -> Data:
    """All of it.

    Raises:
        UnavailableError: the package it is in cannot be had, or not be opened.
    """
    command = ["dpkg-deb", "--fsys-tarfile", str(FASHION.fetch())]
    try:
        unpacked = subprocess.run(command, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise UnavailableError(f"{FASHION.file} cannot be opened: {error}") from error
    with tarfile.open(fileobj=io.BytesIO(unpacked)) as archive:
        x, y, x_test, y_test = (_read(archive, f"{FOLDER}/{part}-ubyte.gz") for part in PARTS)
    images = x.float()[:, None] / 255
    mean, deviation = images.mean(), images.std()
    test = (x_test.float()[:, None] / 255 - mean) / deviation
    return Data(Images((images - mean) / deviation, y.long()), Images(test, y_test.long()))


def _read(archive: tarfile.TarFile, name: str) -> Tensor:
    """An array of bytes in the IDX format: a header of sizes, then the entries."""
    member = archive.extractfile(name)
    assert member is not None, name
    raw = gzip.decompress(member.read())
    axes = raw[3]
    sizes = [int.from_bytes(raw[4 + 4 * k : 8 + 4 * k], "big") for k in range(axes)]
    entries = np.frombuffer(raw, dtype=np.uint8, offset=4 + 4 * axes).copy()
    return torch.from_numpy(entries).reshape(sizes)
