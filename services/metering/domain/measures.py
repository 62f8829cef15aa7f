"""What metering counts."""

from __future__ import annotations

from services.runtime.measures import Measure, gauge

EVENTS_ANSWERED = Measure(
    "tollmesh.metering.events",
    "{event}",
    "Usage events answered, once their batch is stored.",
    {"outcome": "`accepted`, `duplicate`, `conflict` or `rejected`"},
)
EVENTS_REJECTED = Measure(
    "tollmesh.metering.rejections",
    "{event}",
    "Usage events rejected.",
    {"reason": "as in the answer, e.g. `UNKNOWN_SKU`"},
)
EVENTS_ENQUEUED = Measure(
    "tollmesh.metering.enqueued",
    "{event}",
    "Usage events that the spool took, because the database was away when they came.",
)
BATCHES_DRAINED = Measure(
    "tollmesh.metering.drained",
    "{batch}",
    "Batches stored from the spool.",
)
BATCHES_LOST = Measure(
    "tollmesh.metering.spool_lost",
    "{batch}",
    "Batches that were acknowledged, and that the spool has lost before they were stored.",
)
SPOOL_BATCHES = gauge("tollmesh.metering.spool_batches", "{batch}", "Batches that the spool holds.")
SPOOL_BYTES = gauge("tollmesh.metering.spool_bytes", "By", "What they weigh.")
SPOOL_OLDEST = gauge("tollmesh.metering.spool_oldest_s", "s", "Age of the oldest of them.")
SPOOL_STUCK = gauge(
    "tollmesh.metering.spool_stuck",
    "{message}",
    "Messages in the spool that are no batches of this mesh, or can be neither stored nor rejected.",
)
SPOOL_TAKES = gauge(
    "tollmesh.metering.spool_takes", "1", "1 while the spool can be reached and has room."
)
HOLDS = Measure(
    "tollmesh.metering.holds",
    "{hold}",
    "Holds made and ended, once that is stored.",
    {"status": "`held`, `committed`, `released` or `expired`"},
)
THRESHOLDS = Measure(
    "tollmesh.metering.budget_thresholds",
    "{threshold}",
    "Thresholds of budgets that what is used has come to.",
    {"mode": "`soft` or `hard`"},
)
USAGE_BYTES = gauge(
    "tollmesh.metering.usage_bytes",
    "By",
    "What stored usage takes on disk, indexes included.",
    part="`events`, or the `ids` by which an event counts once",
)
USAGE_PARTITIONS = gauge(
    "tollmesh.metering.usage_partitions",
    "{partition}",
    "Partitions of usage events, those of months to come included.",
)
USAGE_AHEAD = gauge(
    "tollmesh.metering.usage_ahead_s", "s", "How long from now on there are partitions for."
)
USAGE_STRAYS = gauge(
    "tollmesh.metering.usage_strays",
    "{event}",
    "Events that came when there was no partition of their month, up to 100,000.",
)
MEASURES = (
    EVENTS_ANSWERED,
    EVENTS_REJECTED,
    EVENTS_ENQUEUED,
    BATCHES_DRAINED,
    BATCHES_LOST,
    SPOOL_BATCHES,
    SPOOL_BYTES,
    SPOOL_OLDEST,
    SPOOL_STUCK,
    SPOOL_TAKES,
    HOLDS,
    THRESHOLDS,
    USAGE_BYTES,
    USAGE_PARTITIONS,
    USAGE_AHEAD,
    USAGE_STRAYS,
)
