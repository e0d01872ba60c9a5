"""The package has no other lazy modules."""

from __future__ import annotations

import pretextkit as pk

plot = pk.plot  # E: attribute
