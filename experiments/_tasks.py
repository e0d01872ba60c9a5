"""The tasks that an experiment runs if its caller names none."""

from __future__ import annotations

from contextlib import suppress

import pretextkit as pk

__all__ = ["tasks_for"]


def tasks_for(backbone: str) -> list[str]:
    """List the registered tasks that train a backbone without further arguments.

    ``mae`` needs a backbone that computes on tokens, and ``distillation`` a teacher.
    """
    found = []
    for name in pk.pretext_tasks:
        with suppress(pk.errors.OptionError, TypeError):
            pk.pretext_tasks.create(name, pk.backbones.create(backbone))
            found.append(name)
    return found
