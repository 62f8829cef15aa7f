"""Every crash point, and what has to happen for it to be passed.

The suite kills the mesh at each. Most are passed by the scenario itself; some only by a mesh that finds what an
earlier death left behind, so that death comes first.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import services
from tools import source_tree

# Point to the point of the death that must come before it.
AFTER_DEATH_AT: dict[str, str] = {
    "billing.claim_due.before_commit": "billing.after_posting",
    "billing.claim_due.after_commit": "billing.after_posting",
    # Behind the charge that the ledger refuses, and then refuses again.
    "billing.put_off.before_commit": "orchestration.attempt.send.after_commit",
    "billing.put_off.after_commit": "orchestration.attempt.send.after_commit",
    "billing.resume_charge.before_commit": "billing.after_posting",
    "billing.resume_charge.after_commit": "billing.after_posting",
}

# Units of work and ports whose points suites of their own kill at, beside this file. All others have to be passed by
# the scenario: a new service's too.
ELSEWHERE = (
    "events.back_fill",
    "events.cancel_timer",
    "events.delete_schedule",
    "events.put_schedule",
    "ledger.make_months",
    "metering.drain",
    "metering.make_months",
    "orchestration.attempt.replay",
    "orchestration.booking.put_off",
    "orchestration.resolve",
    "orders.credits.put_off",
    "orders.put_off",
    "orchestration.webhook",
    "settlement.put_off",
    "spool",
    "timers.fire",
    "transport.sink",
    "transport.source",
    "webhooks",
)


def by_scenario(folders: Iterable[str]) -> frozenset[str]:
    """Return the points that the code in some folders can reach and the scenario has to pass."""
    reachable = frozenset().union(*(source_tree.crash_points(Path(folder)) for folder in folders))
    return frozenset(point for point in reachable if not is_elsewhere(point))


def is_elsewhere(point: str) -> bool:
    """True for a point that a suite of its own kills at."""
    return any(point.startswith(f"{unit}.") for unit in ELSEWHERE)


ALL = by_scenario(services.__path__)


def chosen(points: Iterable[str]) -> list[str]:
    """Return the points to die at: in `make chaos` all of them.

    `make test` leaves out those before a commit: such a death is a rollback, which is the same everywhere.
    """
    everything = os.environ.get("TOLLMESH_CRASH_POINTS") == "all"
    return [point for point in points if everything or not point.endswith(".before_commit")]
