"""What the event service measures."""

from __future__ import annotations

from services.runtime.measures import Measure, MeasureKind

ATTEMPTS = Measure(
    "tollmesh.webhooks.attempt.duration",
    "s",
    "Duration of attempts to deliver a webhook, and by its count how many there were.",
    {
        "outcome": "as in the attempts, in small letters",
        "status": "class of the answer, e.g. `2xx`",
    },
    MeasureKind.DURATION,
)
ALL = (ATTEMPTS,)
