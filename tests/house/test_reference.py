"""Every public name has a place in the reference, `docs/pages/api/`."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from pathlib import Path

import fxrebasin

REFERENCE = Path(__file__).parents[2] / "docs/pages/api"


def test_every_public_name_has_a_place_in_the_reference() -> None:
    text = "\n".join(page.read_text() for page in REFERENCE.glob("*.md"))
    placed = re.findall(r"^::: (\S+)", text, re.MULTILINE)
    assert len(placed) == len(set(placed))
    # A line `::: name` on the page that it belongs to.
    assert set(placed) == set(public_names())


def public_names() -> Iterator[str]:
    """What ``fxrebasin.__all__`` lists, and where that is a module, what this one has."""
    for name in fxrebasin.__all__:
        found = getattr(fxrebasin, name)
        if not isinstance(found, types.ModuleType):
            yield f"fxrebasin.{name}"
        elif hasattr(found, "__all__"):
            # What is known by a shorter name is not told twice.
            short = {id(getattr(fxrebasin, other)) for other in fxrebasin.__all__}
            for inner in found.__all__:
                if id(getattr(found, inner)) not in short:
                    yield f"fxrebasin.{name}.{inner}"
        else:
            for inner, value in vars(found).items():
                if getattr(value, "__module__", "") == found.__name__ and inner[0] != "_":
                    yield f"fxrebasin.{name}.{inner}"
