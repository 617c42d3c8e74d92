"""Pages that stand elsewhere in the repository: measurements, examples, the changelog, rooms.

Every text has one place. What the benchmarks write and what lies beside the code becomes a page
when the site is built, and links between such files lead to the pages.
"""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
_LIBRARY = "fxrebasin"
_WIDE = "---\nhide: [toc]\n---\n\n"
"""Tables and scripts get the room of the table of contents."""


_SECTIONS = {"measurements": "Measurements", "inside": "Inside", "project": "Inside"}
"""Where pages of a folder stand that mkdocs.yml gives no place."""


def on_config(config: MkDocsConfig) -> None:
    """Whatever mkdocs.yml does not list comes at the end of its section."""
    assert config.nav is not None
    sections = {name: entries for entry in config.nav for name, entries in entry.items()}
    for page in page_sources().values():
        section = sections.get(_SECTIONS.get(page.partition("/")[0], ""))
        if section is not None and page not in str(section):
            section.append(page)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and what they show."""
    for source, page in page_sources().items():
        text = (ROOT / source).read_text()
        shown = as_page(text) if source.endswith(".py") else text
        wide = _WIDE if page.startswith(("measurements/", "examples/")) else ""
        files.append(File.generated(config, page, content=wide + with_links(shown, source)))
    for picture in sorted(ROOT.glob("benchmarks/*/*.png")):
        shown_at = f"measurements/{picture.name}"
        files.append(File.generated(config, shown_at, abs_src_path=str(picture)))
    barrier = ROOT / "benchmarks/barrier.png"
    files.append(File.generated(config, barrier.name, abs_src_path=str(barrier)))
    return files


def page_sources() -> dict[str, str]:
    """From files of the repository to the pages that they become."""
    pages = {"CHANGELOG.md": "project/changelog.md"}
    for path in sorted(ROOT.glob("docs/*.md")):
        pages[f"docs/{path.name}"] = f"project/{path.name}"
    for path in sorted(ROOT.glob("benchmarks/*/*.md")):
        pages[str(path.relative_to(ROOT))] = f"measurements/{path.name}"
    for path in sorted(ROOT.glob(f"{_LIBRARY}/*/README.md")):
        pages[str(path.relative_to(ROOT))] = f"inside/{path.parent.name}.md"
    for path in sorted(ROOT.glob("docs/examples/*.py")):
        pages[f"docs/examples/{path.name}"] = f"examples/{path.stem}.md"
    return pages


def as_page(script: str) -> str:
    """A script of cells as Markdown: `# %% [markdown]` cells as text, the others as code."""
    page = []
    for cell in re.split(r"^# %%", script, flags=re.MULTILINE)[1:]:
        head, _, body = cell.partition("\n")
        if head.strip() == "[markdown]":
            page.append(re.sub(r"^# ?", "", body, flags=re.MULTILINE).strip())
        else:
            page.append(f"```python\n{body.strip()}\n```")
    return "\n\n".join(page) + "\n"


def with_links(text: str, source: str) -> str:
    """Links to files beside the source lead to the pages that these become."""
    pages = page_sources()
    own = pages[source]

    def resolved(link: re.Match[str]) -> str:
        target = (ROOT / source).parent / link[2]
        name = str(target.resolve().relative_to(ROOT)) if target.exists() else ""
        if name not in pages:
            return link[0]
        up = "../" * own.count("/")
        return f"{link[1]}({up}{pages[name]}{link[3]})"

    return re.sub(r"(?<!!)(\[[^\]]*\])\(([^)#:]+)(#[^)]*)?\)", resolved, text)
