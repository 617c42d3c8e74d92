"""Docstrings as Markdown: roles become links, doctests code, and named lines lists.

The docstrings read well in a terminal; what Markdown would misread in them is rewritten when the
site is built, before griffe parses their sections.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import griffe

_ROLE = re.compile(r":(?:func|class|meth|mod|attr|data|exc):`~?([^`]+)`")
_SECTION = re.compile(r"^( *)(Sources?|Memory|Cost):[ \n]", re.MULTILINE)
_ENTRY = re.compile(r"^( +)(\*{0,2}\w+(?:, \*{0,2}\w+)+):(?=[ \n])")
# A colon in the first line would make a type of what stands before it; those of code stay.
_RETURNS = re.compile(r"^( *Returns:\n)(.*)$", re.MULTILINE)
_COLON = re.compile(r":(?=\s|$)(?=(?:[^`]*`[^`]*`)*[^`]*$)")
_LISTED = ("Takes", "Gives", "Requires", "Ensures", "Cost")


class MarkdownDocstrings(griffe.Extension):
    """Rewrite every docstring of a package once it is loaded and its aliases can be resolved."""

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **_: object) -> None:
        loader.resolve_aliases()
        objects = [*_objects(pkg)]
        _prefer_what_is_exported(pkg)
        names = PublicNames(pkg)
        for found in objects:
            if isinstance(found, griffe.Module):
                _know_errors(found, pkg)
            if found.docstring is not None:
                found.docstring.value = rewritten(found.docstring.value, found, names)


def _prefer_what_is_exported(module: griffe.Module) -> None:
    """A function that has the name of the module it is from, as ``fxrebasin.repair`` has."""
    for inner in [*module.modules.values()]:
        if not inner.is_alias:
            _prefer_what_is_exported(inner)
        origin = module.imports.get(inner.name, "")
        if inner.name in _exports(module) and origin.startswith(f"{inner.path}."):
            found = module.modules_collection[origin]
            module.members[inner.name] = griffe.Alias(inner.name, found, parent=module)


def _know_errors(module: griffe.Module, package: griffe.Module) -> None:
    """The errors that docstrings name are links, whether or not the module imports them."""
    for name, error in package["errors"].classes.items():
        if name not in module.members:
            module.members[name] = griffe.Alias(name, error, parent=module)


class PublicNames:
    """Which names have a place on a page of the API, and where."""

    def __init__(self, package: griffe.Module) -> None:
        self.objects: dict[str, griffe.Object | griffe.Alias] = {}
        self._short: dict[str, str] = {}
        for name in _exports(package):
            member = package[name]
            if member.is_module:
                for inner in _exports(member):
                    self._add(f"{member.path}.{inner}", member[inner])
            else:
                self._add(member.path, member)

    def _add(self, path: str, found: griffe.Object | griffe.Alias) -> None:
        self.objects[path] = found
        self._short.setdefault(path.rpartition(".")[2], path)

    def link(self, target: str, where: griffe.Object) -> str:
        """A reference to a target, as a docstring at some place names it, or its name as code."""
        shown = target.rpartition(".")[2] if target.startswith(("fxrebasin.", ".")) else target
        for candidate in self._candidates(target.lstrip("."), where):
            first, _, member = candidate.partition(":")
            if first in self.objects and (not member or member in self.objects[first].all_members):
                return f"[`{shown}`][{first}{'.' if member else ''}{member}]"
        return f"`{shown}`"

    def _candidates(self, target: str, where: griffe.Object) -> Iterator[str]:
        around = where if where.is_class else where.parent
        if around is not None and around.is_class and "." not in target:
            yield f"{self._short.get(around.name, '')}:{target}"
        for path in (target, f"fxrebasin.{target}"):
            yield path
            yield ":".join(path.rsplit(".", 1))
        head, _, member = target.removeprefix("fxrebasin.").partition(".")
        if not target.startswith("fxrebasin."):
            yield self._short.get(head, "") + (f":{member}" if member else "")


def rewritten(text: str, where: griffe.Object, names: PublicNames) -> str:
    """The docstring of an object, so that Markdown shows what a terminal shows."""
    text = _ROLE.sub(lambda role: names.link(role[1], where), text)
    text = _SECTION.sub(r"\1**\2.**\n", text) if not _is_pass(text) else _list_of_promises(text)
    text = _RETURNS.sub(lambda found: found[1] + _COLON.sub("&#58;", found[2]), text)
    return "\n".join(_fenced(list(_separated(text.splitlines()))))


def _is_pass(text: str) -> bool:
    return all(re.search(rf"^{word}: ", text, re.MULTILINE) for word in _LISTED[:2])


def _list_of_promises(text: str) -> str:
    listed = "|".join(_LISTED)
    text = re.sub(rf"^({listed}): ", r"* **\1**: ", text, flags=re.MULTILINE)
    return re.sub(r"^(\* \*\*Takes)", r"\n\1", text, flags=re.MULTILINE)


def _separated(lines: list[str]) -> Iterator[str]:
    """One entry for each of several arguments that are described together."""
    for k, line in enumerate(lines):
        entry = _ENTRY.match(line)
        if entry is None:
            yield line
            continue
        indent, together = entry[1], entry[2].split(", ")
        text = [line[entry.end() :]]
        for following in lines[k + 1 :]:
            if not following.startswith(indent + " "):
                break
            text.append(following)
        for name in together[:-1]:
            yield f"{indent}{name}:{text[0]}"
            yield from text[1:]
        yield f"{indent}{together[-1]}:{text[0]}"


def _fenced(lines: list[str]) -> Iterator[str]:
    """Interactive examples, which end at an empty line, as blocks of code."""
    indent: str | None = None
    for line in lines:
        starts = line.lstrip().startswith(">>>")
        if indent is None and starts:
            indent = line[: len(line) - len(line.lstrip())]
            yield f"{indent}```pycon"
        elif indent is not None and not line.strip():
            yield f"{indent}```"
            indent = None
        yield line
    if indent is not None:
        yield f"{indent}```"


def _exports(module: griffe.Object | griffe.Alias) -> list[str]:
    if module.exports is not None:
        return [str(name) for name in module.exports]
    return [
        name
        for name, member in module.members.items()
        if not name.startswith("_") and not member.is_alias
    ]


def _objects(found: griffe.Object) -> Iterator[griffe.Object]:
    yield found
    for member in found.members.values():
        if isinstance(member, griffe.Object):
            yield from _objects(member)
