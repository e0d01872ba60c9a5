"""``pk.plots`` and ``pk.testing`` are modules of the package, without an import of their own."""

from __future__ import annotations

import pretextkit as pk

plot = pk.plots.views
check = pk.testing.check_pretext_task
