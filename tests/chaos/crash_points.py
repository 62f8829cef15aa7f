"""Every crash point, and what has to happen for it to be passed.

The suite kills the mesh at each. Most are passed by the scenario itself; some only by a mesh that finds what an
earlier death left behind, so that death comes first.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

# Point to the point of the death that must come before it.
AFTER_DEATH_AT: dict[str, str] = {
    "billing.claim_due.before_commit": "billing.after_posting",
    "billing.claim_due.after_commit": "billing.after_posting",
    # The ledger has refused it, and does so again.
    "billing.put_off.before_commit": "billing.next_round.after_commit",
    "billing.put_off.after_commit": "billing.next_round.after_commit",
    "billing.resume_charge.before_commit": "billing.after_posting",
    "billing.resume_charge.after_commit": "billing.after_posting",
}

BY_SCENARIO = frozenset(
    f"{unit}.{side}_commit"
    for unit in (
        "access.create_api_key",
        "access.revoke_api_key",
        "billing.create_charge",
        "billing.freeze_charge",
        "billing.next_round",
        "billing.refuse_charge",
        "billing.settle_charge",
        "events.dispatch",
        "events.publish",
        "events.register_types",
        "events.replay_dead_letters",
        "events.replay_events",
        "events.tick",
        "ledger.create_accounts",
        "ledger.post_transfers",
        "metering.ingest",
        "metering.update_ingest_settings",
        "monitoring.record_violations",
        "monitoring.register_contracts",
        "orchestration.attempt.create",
        "orchestration.attempt.send",
        "orchestration.attempt.settle",
        "orchestration.attempt.verify",
        "orchestration.payment.claim",
        "orchestration.payment.create",
        "orchestration.payment.park",
        "orchestration.put_merchant_config",
        "orchestration.sandbox",
        "pricing.apply_catalog",
        "runtime.violations",
    )
    for side in ("before", "after")
) | {
    "billing.after_claim",
    "billing.after_posting",
    "orchestration.payment.after_send",
    "orchestration.payment.after_verify",
    "orchestration.payment.before_send",
    "orchestration.payment.before_verify",
}

ALL = BY_SCENARIO | AFTER_DEATH_AT.keys()


def chosen(points: Iterable[str]) -> list[str]:
    """Return the points to die at: in `make chaos` all of them.

    `make test` leaves out those before a commit: such a death is a rollback, which is the same everywhere.
    """
    everything = os.environ.get("TOLLMESH_CRASH_POINTS") == "all"
    return [point for point in points if everything or not point.endswith(".before_commit")]
