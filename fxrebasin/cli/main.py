"""The entry of the program ``fxrebasin``; its commands are in :mod:`fxrebasin.cli.commands`."""

from __future__ import annotations

import sys
from importlib.util import find_spec


def main() -> None:
    """Run the program, or say what to install for it.

    The library itself needs neither typer nor rich, so they may be missing.
    """
    missing = [name for name in ("typer", "rich") if find_spec(name) is None]
    if missing:
        sys.exit(f"the program needs {' and '.join(missing)}: pip install 'fxrebasin[cli]'")
    from .commands import app

    app()
