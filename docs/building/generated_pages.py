"""Pages that stand elsewhere in the repository: the README, measurements, examples, rooms.

Every text has one place. What the benchmarks write and what lies beside the code becomes a page
when the site is built, and links between such files lead to the pages.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs/pages"
BARRIER = ROOT / "benchmarks/barrier.png"
_WIDE = "---\nhide: [toc]\n---\n\n"
"""Tables and scripts get the room of the table of contents."""
_WIDE_FOLDERS = ("measurements/", "examples/")
_HOME = "---\nhide: [navigation]\n---\n\n"
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
        head = _HOME if page == "index.md" else _WIDE if page.startswith(_WIDE_FOLDERS) else ""
        content = head + (as_page(text) if source.endswith(".py") else text)
        files.append(File.generated(config, page, content=content))
    for picture in sorted(ROOT.glob("benchmarks/*/*.png")):
        shown_at = f"measurements/{picture.name}"
        files.append(File.generated(config, shown_at, abs_src_path=str(picture)))
    files.append(File.generated(config, BARRIER.name, abs_src_path=str(BARRIER)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Texts link to files where they are in the repository; here to the pages of these."""
    sources = {name: source for source, name in page_sources().items()}
    own = page.file.src_uri
    text = with_links(markdown, ROOT / sources.get(own, f"docs/pages/{own}"), own)
    return with_figures_kept_together(text) if own.startswith("measurements/") else text


@cache
def page_sources() -> dict[str, str]:
    """From files of the repository to the pages that they become."""
    pages = {"README.md": "index.md", "CHANGELOG.md": "project/changelog.md"}
    for path in sorted(ROOT.glob("docs/*.md")):
        pages[f"docs/{path.name}"] = f"project/{path.name}"
    for path in sorted(ROOT.glob("benchmarks/*/*.md")):
        pages[str(path.relative_to(ROOT))] = f"measurements/{path.name}"
    for path in sorted(ROOT.glob("fxrebasin/*/README.md")):
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


def with_links(text: str, source: Path, own: str) -> str:
    """The text of a file with links from the page that it becomes to those of others."""

    def resolved(link: re.Match[str]) -> str:
        target = (source.parent / link[2]).resolve()
        page = _page_of(target) if target.exists() else None
        if page is None:
            return link[0]
        return f"{link[1]}({'../' * own.count('/')}{page}{link[3] or ''})"

    return re.sub(r"(\[[^\]]*\])\(([^)#:]+)(#[^)]*)?\)", resolved, text)


def with_figures_kept_together(text: str) -> str:
    """Short cells of tables stay on one line; long ones, which are prose, may be broken."""

    def kept(cell: re.Match[str]) -> str:
        return f'| <span class="figure">{cell[1]}</span> '

    def row(line: re.Match[str]) -> str:
        return re.sub(r"\| *([^| ][^|]{0,27}?) *(?=\|)", kept, line[0])

    return re.sub(r"^\|(?![-:| ]+$).*\|$", row, text, flags=re.MULTILINE)


def _page_of(path: Path) -> str | None:
    """The page that a file of the repository becomes, or what a page shows of it."""
    if path == BARRIER:
        return BARRIER.name
    if path.is_relative_to(PAGES):
        return str(path.relative_to(PAGES))
    return page_sources().get(str(path.relative_to(ROOT)))
