"""Make a recipe that fails simpler, for as long as it still fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks.fuzz.networks import Recipe, Step, UnfitError, build
from benchmarks.fuzz.ops import ends


def simpler(recipe: Recipe) -> Iterator[Recipe]:
    """Recipes that are a little simpler; not all of them fit together."""
    first, *steps, last = recipe
    for fewer in _fewer(tuple(steps)):
        yield (first, *fewer, last)
    if last != ("each",):
        yield (first, *steps, ("each",))
    before = ends.STEMS[: ends.STEMS.index(first)] if first in ends.STEMS else ()
    yield from ((other, *steps, last) for other in before)


def _fewer(steps: tuple[Step, ...]) -> Iterator[tuple[Step, ...]]:
    for k, step in enumerate(steps):
        before, after = steps[:k], steps[k + 1 :]
        yield before + after
        bodies = [n for n, part in enumerate(step) if isinstance(part, tuple)]
        for n in bodies:
            yield (*before, *step[n], *after)
            for fewer in _fewer(step[n]):
                yield (*before, (*step[:n], fewer, *step[n + 1 :]), *after)


def shrink(recipe: Recipe, fails: Callable[[Recipe], bool], attempts: int = 200) -> Recipe:
    """The simplest recipe found that still fails; ``fails`` is never asked about unfit ones."""
    seen = {recipe}
    found = True
    while found:
        found = False
        for candidate in simpler(recipe):
            if candidate in seen or not _fits(candidate):
                continue
            if len(seen) > attempts:
                return recipe
            seen.add(candidate)
            if fails(candidate):
                recipe, found = candidate, True
                break
    return recipe


def _fits(recipe: Recipe) -> bool:
    try:
        build(recipe)
    except UnfitError:
        return False
    return True
