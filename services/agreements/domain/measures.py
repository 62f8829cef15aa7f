"""What agreements count."""

from __future__ import annotations

from services.runtime.measures import Measure

APPLIED = Measure(
    "tollmesh.agreements.edits",
    "{edit}",
    "Edits that were written to the logs of agreements.",
    {"edit": "name of the edit, e.g. `change_price`"},
)
ALL = (APPLIED,)
