"""Two checkpoints of one model of torchvision: aligned, and the line between them measured.

    python -m benchmarks.merging.zoo resnet18 --a one.pt --b other.pt --data images/ --plot line.png
    python -m benchmarks.merging.zoo mobilenet_v3_small --train --plot line.png

The data is a folder with a folder of images per class, which are resized and cropped as the
published weights of the model want them, or a file of safetensors with ``images`` ``(n, c, h, w)``
and ``labels`` ``(n,)``. Without data the two are aligned by their weights, and no line is measured.
Checkpoints are state dicts, as ``torch.save`` or safetensors write them; a dict that holds one
under ``state_dict`` or ``model`` will do. Nothing else is unpickled. With ``--train`` there need
not be any: two seeds are trained on Fashion-MNIST, its images enlarged and in three channels, and
measured on its test images; that takes minutes for a small model, once.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, models

import fxrebasin as fr
from benchmarks.measuring.models import native_size
from benchmarks.measuring.reporting import parser_of
from benchmarks.merging.fashion import Images, load_fashion
from benchmarks.merging.training import Recipe, scores, trained
from fxrebasin.drawing.figures import check_picture_path
from fxrebasin.files import replacing

CLASSES = 1000
"""Of a model as torchvision makes it."""
WITH_AUXILIARY = ("googlenet", "inception_v3")
"""Models that warn unless they are told how to be initialised."""
TRAINED = 12_000
"""Images that models are trained on."""


class Lines(NamedTuple):
    """What was found."""

    report: fr.Report
    state: dict[str, Tensor]
    """B's, aligned."""
    before: fr.Path | None
    after: fr.Path | None


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """A state dict from a file, without the names that ``DataParallel`` puts in front.

    Raises:
        ValueError: there is none in the file.
    """
    if path.suffix == ".safetensors":
        return dict(load_file(path))
    stored = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model"):
        if isinstance(stored, dict) and isinstance(stored.get(key), dict):
            stored = stored[key]
    if not isinstance(stored, dict) or not all(isinstance(x, Tensor) for x in stored.values()):
        raise ValueError(f"{path}: expected a state dict, found {type(stored).__name__}")
    return {name.removeprefix("module."): tensor for name, tensor in stored.items()}


def build(name: str, state: dict[str, Tensor]) -> nn.Module:
    """A model of torchvision with weights, and with as many classes as these have."""
    options = {"init_weights": False} if name in WITH_AUXILIARY else {}
    with torch.device("meta"):
        usual = models.get_model(name, weights=None, **options).state_dict()
    heads = {len(state[k]) for k, x in usual.items() if k in state and x.shape != state[k].shape}
    classes = heads.pop() if len(heads) == 1 else CLASSES
    model: nn.Module = models.get_model(name, weights=None, num_classes=classes, **options)
    model.load_state_dict(state)
    return model.eval()


def read_images(path: Path, name: str, count: int) -> Images:
    """Images and labels, as many as asked for, in a random order that is always the same."""
    if path.is_file():
        stored = load_file(path)
        return Images(stored["images"], stored["labels"].long()).first(count)
    transforms = models.get_model_weights(name).DEFAULT.transforms()
    folder = datasets.ImageFolder(str(path), transform=transforms)
    order = torch.randperm(len(folder), generator=torch.Generator().manual_seed(0))[:count]
    images, labels = zip(*DataLoader(Subset(folder, order.tolist()), batch_size=64), strict=True)
    return Images(torch.cat(images), torch.cat(labels))


def train_two(name: str, *, epochs: int) -> tuple[nn.Module, nn.Module, Images]:
    """Two seeds of a model, trained on clothes, and the images to test them on.

    Raises:
        UnavailableError: the data cannot be had.
    """
    data = load_fashion()
    train, test = (_enlarged(data.train.first(TRAINED)), _enlarged(data.test))
    options = {"init_weights": True} if name in WITH_AUXILIARY else {}
    recipe = Recipe(
        f"{name} of torchvision",
        partial(models.get_model, name, weights=None, num_classes=10, **options),
        epochs=epochs,
        batch=64,
    )
    a, b = (trained(recipe, train, seed=seed) for seed in (0, 1))
    return a, b, test


def _enlarged(clothes: Images) -> Images:
    """In three channels that are the same, as models of torchvision take them."""
    large = F.interpolate(clothes.images, scale_factor=2.0, mode="bilinear")
    return Images(large.expand(-1, 3, -1, -1), clothes.labels)


def align(a: nn.Module, b: nn.Module, data: Images | None, size: int, *, options: Options) -> Lines:
    """Align B with A, and measure the line between them before and after where there is data."""
    x = torch.zeros(1, 3, size, size) if data is None else data.images[: options.watched]
    start = None
    symmetry = fr.analyze(b, args=(x[:1],))
    if data is not None:
        start = fr.activation_matching(b, to=a, args=(x,), symmetry=symmetry).permutation
    aligned = fr.rebasin(b, to=a, args=(x[:1],), symmetry=symmetry, start=start)
    found = Lines(aligned.report, dict(aligned.state_dict()), None, None)
    if data is None:
        return found
    loader = data.images.split(64)[: options.batches]
    before, after = (
        fr.interpolate(
            a, end, lambda m: scores(m, data, batch=64), steps=options.steps, loader=loader
        )
        for end in (b, aligned)
    )
    return found._replace(before=before, after=after)


class Options(NamedTuple):
    """How much is looked at."""

    steps: int
    """Points of the line."""
    watched: int
    """Images whose activations are matched."""
    batches: int
    """Batches of 64 images that BatchNorm's statistics are measured on, at every point."""


def main(arguments: list[str] | None = None) -> int:
    parser = parser_of("merging.zoo", __doc__)
    parser.add_argument("name", choices=models.list_models(module=models), metavar="NAME")
    parser.add_argument("--a", type=Path, help="the checkpoint to align with")
    parser.add_argument("--b", type=Path, help="the checkpoint that is permuted")
    parser.add_argument(
        "--train",
        action="store_true",
        help="train two seeds instead of reading checkpoints and data",
    )
    parser.add_argument("--epochs", type=int, default=4, help="to train for")
    parser.add_argument("--data", type=Path, help="a folder of images or a file of safetensors")
    parser.add_argument("--images", type=int, default=1000, help="how many are measured on")
    parser.add_argument(
        "--watched", type=int, default=64, help="how many activations are matched on"
    )
    parser.add_argument("--batches", type=int, default=16, help="of 64 images, for BatchNorm")
    parser.add_argument("--steps", type=int, default=11)
    parser.add_argument("--plot", type=Path, help="where the picture goes")
    parser.add_argument("--save", type=Path, help="where aligned B goes, as safetensors")
    given = parser.parse_args(arguments)

    if given.plot:
        check_picture_path(given.plot)
    paths = [path for path in (given.a, given.b) if path]
    if len(paths) != (0 if given.train else 2):
        parser.error("give either --train or two checkpoints, --a and --b")
    data: Images | None = None
    try:
        if given.train:
            a, b, data = train_two(given.name, epochs=given.epochs)
        else:
            a, b = (build(given.name, read_checkpoint(path)) for path in paths)
    except (OSError, ValueError, RuntimeError) as error:
        parser.error(str(error))
    if given.data:
        data = read_images(given.data, given.name, given.images)
    elif data:
        data = data.first(given.images)
    size = native_size(given.name)
    options = Options(given.steps, given.watched, given.batches)
    found = align(a, b, data, size, options=options)
    print(found.report)
    if given.save:
        with replacing(given.save) as draft:
            save_file({k: v.contiguous().clone() for k, v in found.state.items()}, draft)
    if found.before and found.after:
        print(f"\nas they are: {found.before}\n\naligned: {found.after}")
        if given.plot:
            found.before.plot(given.plot, compare=found.after, title=given.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
