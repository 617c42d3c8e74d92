"""A rule with one tie removed must be found out.

Every rule is run on its samples while the methods of ``Call`` that it uses are recorded. Then, one
by one, a call of a method is made to forget something: a merge one of its operands, a signature one
occurrence of a letter, a sum what it was over, a result one of its coordinates. ``check_rule`` has
to call each such mutant unsound on some sample, or it is listed below, with the reason why nothing
was removed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from rule_samples import SAMPLES, Sample
from torchvision_samples import SAMPLES as OF_TORCHVISION

from fxrebasin.layouts.coordinates import varies_on
from fxrebasin.layouts.layout import Layout
from fxrebasin.layouts.settling import settle
from fxrebasin.rules.call import Call, Rule
from fxrebasin.rules.registry import find_rule
from fxrebasin.testing.check import RuleCheck, check_rule

ORIGINALS: dict[str, Callable[..., Any]] = {
    name: getattr(Call, name) for name in ("merge", "reduce", "pin", "positions", "signature")
}
"""The methods that tie units; what a signature does inside is not looked into."""


@contextmanager
def replaced(name: str, function: Callable[..., Any]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Call, name, function)
        yield


Change = Callable[..., Any]
"""Takes the arguments of a method of ``Call``, and does something else."""


@dataclass(frozen=True)
class Mutant:
    """A rule whose call number ``place`` of a method is changed."""

    method: str
    place: int
    what: str
    change: Change

    @property
    def name(self) -> str:
        return f"{self.method} {self.place} {self.what}"

    def of(self, rule: Rule) -> Rule:
        def mutated(call: Call, *args: Any, **kwargs: Any) -> Any:
            if self.method == "result":
                return self.change(call, rule(call, *args, **kwargs))
            calls = iter(range(1000))

            def changed(*inner: Any, **options: Any) -> Any:
                here = next(calls) == self.place
                return (self.change if here else ORIGINALS[self.method])(*inner, **options)

            with replaced(self.method, changed):
                return rule(call, *args, **kwargs)

        return mutated


# which mutants there are


def merge_mutants(place: int, call: Call, *operands: Layout, **options: Any) -> Iterator[Mutant]:
    for k, operand in enumerate(operands):
        if operand.coordinates and len(operands) > 1:

            def change(call: Call, *operands: Layout, k: int = k, **options: Any) -> Layout:
                empty = Layout(operands[k].shape)
                operands = (*operands[:k], empty, *operands[k + 1 :])
                return ORIGINALS["merge"](call, *operands, **options)

            yield Mutant("merge", place, f"forgets operand {k}", change)


def reduce_mutants(
    place: int, call: Call, x: Layout, dims: Sequence[int], **options: Any
) -> Iterator[Mutant]:
    """Only where units lie partly in the sum; else all that is forgotten is that its set is kept.

    That matters for parts of axes, which no op alone has; ``test_check`` has a rule that does.
    """
    inside = {d % x.ndim for d in dims} if x.ndim else set()
    if any(set(varies_on(c)) & inside and set(varies_on(c)) - inside for c in x.coordinates):

        def change(call: Call, x: Layout, dims: Sequence[int], **options: Any) -> Layout:
            x = call.resolve(x)
            inside = {d % x.ndim for d in dims}
            kept = tuple(c for c in x.coordinates if not set(varies_on(c)) & inside)
            return ORIGINALS["reduce"](call, Layout(x.shape, kept), dims, **options)

        yield Mutant("reduce", place, "forgets what its sums are over", change)


def pin_mutants(place: int, call: Call, x: Layout, *rest: Any, **options: Any) -> Iterator[Mutant]:
    if not all(call.units.is_pinned(c).all() for c in x.coordinates):
        yield Mutant("pin", place, "is left out", lambda call, x, *rest, **options: call.resolve(x))


def positions_mutants(
    place: int, call: Call, shape: tuple[int, ...], dims: Sequence[int] | None = None
) -> Iterator[Mutant]:
    if ORIGINALS["positions"](call, shape, dims).coordinates:
        yield Mutant("positions", place, "are left out", lambda call, shape, *dims: Layout(shape))


TOKEN = re.compile(r"_\.\.\.|\.\.\.|\w+")


def signature_mutants(
    place: int, call: Call, text: str, *operands: Layout | None, **sizes: int
) -> Iterator[Mutant]:
    """One occurrence of a letter gets a name of its own, one ``_`` becomes free."""
    left, _, right = text.partition("->")
    parts = left.split(",")
    present = [k for k, operand in enumerate(operands) if operand is not None]
    for k in present:
        others = {t for j in present if j != k for t in TOKEN.findall(parts[j])}
        for match in TOKEN.finditer(parts[k]):
            letter = match.group()
            if letter == "..." or (letter[0] != "_" and letter not in others):
                continue
            rest = len(TOKEN.findall(re.sub(r"\([^)]*\)", "p", parts[k]))) - 1
            operand = operands[k]
            assert operand is not None
            count = operand.ndim - rest if letter == "_..." else 1
            if not count:
                continue
            fresh = " ".join(f"z{n}" for n in range(count))
            changed = parts[k][: match.start()] + fresh + parts[k][match.end() :]
            mutated = f"{','.join([*parts[:k], changed, *parts[k + 1 :]])}->{right}"

            def change(
                call: Call,
                text: str,
                *operands: Layout | None,
                mutated: str = mutated,
                letter: str = letter,
                **sizes: int,
            ) -> Layout:
                if letter in sizes:
                    sizes["z0"] = sizes[letter]
                return ORIGINALS["signature"](call, mutated, *operands, **sizes)

            yield Mutant("signature", place, f"{text} becomes {mutated}", change)


def result_mutants(call: Call, found: Any) -> Iterator[Mutant]:
    """A result forgets a coordinate, or that it holds positions in an order."""
    for place, result in enumerate(as_list(found)):
        for k in range(len(settle_result(call, result).coordinates)):

            def forget(call: Call, found: Any, place: int = place, k: int = k) -> list[Layout]:
                results = [settle_result(call, x) for x in as_list(found)]
                left = results[place].coordinates[:k] + results[place].coordinates[k + 1 :]
                results[place] = replace(results[place], coordinates=left)
                return results

            yield Mutant("result", place, f"forgets coordinate {k}", forget)
        if result.order_of is not None:

            def disown(call: Call, found: Any, place: int = place) -> list[Layout]:
                results = as_list(found)
                results[place] = replace(results[place], order_of=None)
                return results

            yield Mutant("result", place, "forgets that it is an order", disown)


def as_list(found: Any) -> list[Layout]:
    return [found] if isinstance(found, Layout) else list(found)


def settle_result(call: Call, x: Layout) -> Layout:
    order_of = x.order_of
    return replace(settle(call.units, call.resolve(x)), order_of=order_of)


MUTANTS_OF: dict[str, Callable[..., Iterator[Mutant]]] = {
    "merge": merge_mutants,
    "reduce": reduce_mutants,
    "pin": pin_mutants,
    "positions": positions_mutants,
    "signature": signature_mutants,
}


class RecordedError(Exception):
    """Ends a check once the rule has been run."""


def mutants_on(rule: Rule, sample: Sample) -> dict[str, Mutant]:
    found: dict[str, Mutant] = {}

    def recording(call: Call, *args: Any, **kwargs: Any) -> Any:
        results = with_recorders(list(ORIGINALS), lambda: rule(call, *args, **kwargs))
        found.update({m.name: m for m in result_mutants(call, results)})
        raise RecordedError

    def with_recorders(names: list[str], run: Callable[[], Any]) -> Any:
        if not names:
            return run()
        name, calls = names[0], iter(range(1000))

        def recorder(*args: Any, **kwargs: Any) -> Any:
            place = next(calls)
            found.update({m.name: m for m in MUTANTS_OF[name](place, *args, **kwargs)})
            return ORIGINALS[name](*args, **kwargs)

        with replaced(name, recorder):
            return with_recorders(names[1:], run)

    with pytest.raises(RecordedError):
        run_check(recording, sample)
    return found


def run_check(rule: Rule, sample: Sample) -> RuleCheck:
    op = sample.stand_in or sample.op
    return check_rule(op, *sample.args, rule=rule, complete=False, **sample.kwargs)


# what becomes of them


def rule_of(sample: Sample) -> Rule:
    rules = [find_rule(getattr(sample.op, name)) for name in sample.op.overloads()]
    return next(rule for rule in rules if rule is not None)


def samples_by_rule() -> dict[str, list[Sample]]:
    """Ops that share a rule are mutated together; named after the first name."""
    groups: dict[Rule, list[Sample]] = {}
    for sample in [*SAMPLES, *OF_TORCHVISION]:
        groups.setdefault(rule_of(sample), []).append(sample)
    return {min(s.name.rstrip("_") for s in samples): samples for samples in groups.values()}


GROUPS = samples_by_rule()

UNPOOL = "... _ _, ... _ _ -> ... _ _"
STATISTICS = "statistics have the units of what they are of, or parents that the sum has named"
ALONE = "a row that is in no other result is alone of its kind"
CONSTANT = "indices are constants, whose positions are pinned already"
EITHER = "pinning units, and giving each a position of its own, each keep them from moving"

OVERWRITTEN = "scales that were stored are overwritten where the observer is on"
NO_ERRORS = "matrices that have no inverse are no example"

EQUIVALENT: dict[tuple[str, str], str] = {
    ("_scaled_dot_product_cudnn_attention", "merge 1 forgets operand 1"): STATISTICS,
    ("_scaled_dot_product_flash_attention", "merge 1 forgets operand 1"): STATISTICS,
    ("_fused_rms_norm", "merge 0 forgets operand 1"): STATISTICS,
    ("embedding_renorm", "merge 0 forgets operand 1"): STATISTICS,
    ("renorm", "merge 0 forgets operand 1"): STATISTICS,
    ("_fused_moving_avg_obs_fq_helper", "merge 0 forgets operand 1"): STATISTICS,
    ("_fused_moving_avg_obs_fq_helper", "merge 1 forgets operand 3"): OVERWRITTEN,
    ("linalg_inv_ex", "result 1 forgets coordinate 0"): NO_ERRORS,
    ("cummax", "merge 0 forgets operand 1"): EITHER,
    ("cummax", "pin 0 is left out"): EITHER,
    ("cummax", "positions 0 are left out"): EITHER,
    ("scatter", "merge 1 forgets operand 0"): CONSTANT,
    ("scatter", "merge 1 forgets operand 1"): CONSTANT,
    ("scatter", "positions 2 are left out"): CONSTANT,
    ("scatter_add", "merge 1 forgets operand 1"): CONSTANT,
    ("scatter_add", "positions 2 are left out"): CONSTANT,
    ("_batch_norm_no_update", "merge 0 forgets operand 1"): STATISTICS,
    ("_log_softmax", "merge 0 forgets operand 1"): STATISTICS,
    ("native_group_norm", "merge 0 forgets operand 1"): STATISTICS,
    ("native_layer_norm", "merge 0 forgets operand 1"): STATISTICS,
    ("_weight_norm_interface", "merge 0 forgets operand 1"): STATISTICS,
    ("max_unpool2d", f"signature 0 {UNPOOL} becomes ... _ _, ... z0 _ -> ... _ _"): CONSTANT,
    ("max_unpool2d", f"signature 0 {UNPOOL} becomes ... _ _, ... _ z0 -> ... _ _"): CONSTANT,
    ("segment_reduce", "pin 0 is left out"): CONSTANT,
    ("split", "result 2 forgets coordinate 0"): ALONE,
    **{("view_as_complex", f"merge 0 forgets operand {k}"): ALONE for k in range(2)},
    **{("view_as_complex", f"result 0 forgets coordinate {k}"): ALONE for k in (2, 3)},
    **{("unbind", f"result {k} forgets coordinate 1"): ALONE for k in range(3)},
}
"""Per rule and mutant, why it is as right as the rule."""


WITHOUT_TIES = {"_foreach_norm", "fill", "trace"}
"""Their results have no axes, and nothing is tied but by what moves entries, if at all."""


@pytest.mark.parametrize("group", GROUPS)
def test_a_rule_with_a_tie_removed_is_found_out(group: str) -> None:
    samples = GROUPS[group]
    rule = rule_of(samples[0])
    tries: dict[str, list[tuple[Rule, Sample]]] = {}
    for sample in samples:
        for name, mutant in mutants_on(rule, sample).items():
            tries.setdefault(name, []).append((mutant.of(rule), sample))
    assert tries or group in WITHOUT_TIES
    survivors = {n for n, tried in tries.items() if all(run_check(m, s) for m, s in tried)}
    assert survivors == {name for of, name in EQUIVALENT if of == group}
