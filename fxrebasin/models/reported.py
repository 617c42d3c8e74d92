"""Modules of any class that say how they came about, as ``module.report``."""

from __future__ import annotations

from typing import Any

from torch import nn

from .rebased import META, RebasedModule


class Reported(type):
    """Of types for annotations and ``isinstance``: an instance is any module with such a report."""

    reports: type

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, nn.Module) and isinstance(
            getattr(instance, "report", None), cls.reports
        )


def put_report(report: Any, module: nn.Module) -> None:
    """Have a module say how it came about, in the place of what the passes knew of it."""
    if isinstance(module, RebasedModule):
        module.meta[META] = report
    else:
        vars(module).pop(META, None)
        vars(module)["report"] = report
