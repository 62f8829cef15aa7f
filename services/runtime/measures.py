"""Measures: what can be read at the metrics endpoint, by name, unit and labels. Each service declares its own.

Names follow OpenTelemetry; Prometheus shows `tollmesh.ledger.entries` as `tollmesh_ledger_entries_total`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType


class MeasureKind(StrEnum):
    """How a measure is read."""

    COUNTER = "counter"
    GAUGE = "gauge"
    DURATION = "histogram"


@dataclass(frozen=True, slots=True)
class Measure:
    """Something that is measured.

    Attributes:
        name: `tollmesh.<owner>.<what>`.
        unit: in UCUM: `s`, `By`, `{event}`.
        description: what one of it is, and when it is counted.
        labels: what it is told apart by, with the meaning of each.
        kind: how it is read.
    """

    name: str
    unit: str
    description: str
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    kind: MeasureKind = MeasureKind.COUNTER


def gauge(name: str, unit: str, description: str, **labels: str) -> Measure:
    """Declare what something stands at."""
    return Measure(name, unit, description, labels, MeasureKind.GAUGE)


# What holds whichever service runs.
MESH = (
    Measure(
        "rpc.server.call.duration",
        "s",
        "Duration of incoming calls, and by its count how many there were.",
        {"rpc.method": "full name of the RPC", "rpc.response.status_code": "gRPC status"},
        MeasureKind.DURATION,
    ),
    gauge(
        "tollmesh.serving", "1", "1 while it is ready to serve.", service="gRPC service, or `all`"
    ),
    gauge("tollmesh.database.silent_s", "s", "Seconds since the database last answered."),
    gauge("tollmesh.storage.free_bytes", "By", "Free space of the disk of the data directory."),
    gauge("tollmesh.storage.low", "1", "1 while writes are refused because the disk is full."),
    gauge("tollmesh.postgres.restarts", "{restart}", "Restarts of the embedded Postgres."),
    gauge(
        "tollmesh.loop.stalled_s",
        "s",
        "Seconds since background work last went round.",
        loop="which",
        site="of a loop that takes events of another site in",
        stream="of one that sends to NATS",
    ),
    gauge(
        "tollmesh.loop.failing_s",
        "s",
        "Seconds since background work last succeeded.",
        loop="which",
        site="as above",
        stream="as above",
    ),
    gauge(
        "tollmesh.work.due",
        "{item}",
        "Items of a queue that are due and held by nobody.",
        queue="which",
    ),
    gauge("tollmesh.work.oldest_s", "s", "Age of the oldest of them.", queue="which"),
    gauge(
        "tollmesh.events.alarm", "1", "1 while an alarm of the event log is active.", alarm="which"
    ),
    gauge(
        "tollmesh.events.waiting",
        "{event}",
        "Events that a consumer has not handled, counted up to 100,000.",
        consumer="which",
    ),
    gauge("tollmesh.events.dead_letters", "{event}", "Events that a consumer gave up on."),
    gauge("tollmesh.events.tick_age_s", "s", "Seconds since the last tick; an idle log has none."),
    gauge(
        "tollmesh.events.stalled_s",
        "s",
        "Seconds for which the feed could not be brought up to date.",
    ),
    gauge("tollmesh.events.unsequenced", "1", "1 while an event waits for a tick."),
    gauge("tollmesh.events.transaction_s", "s", "Age of the oldest transaction."),
    gauge("tollmesh.events.xmin_age", "{transaction}", "Age of the oldest snapshot."),
    gauge("tollmesh.events.prepared", "{transaction}", "Prepared transactions."),
    gauge("tollmesh.events.prepared_s", "s", "Age of the oldest of them."),
    gauge("tollmesh.events.slot_xmin_age", "{transaction}", "What replication slots hold back."),
    gauge("tollmesh.events.slot_wal_bytes", "By", "Log that is kept for the slot furthest behind."),
    gauge("tollmesh.events.strays", "{row}", "Rows in a default partition."),
    gauge(
        "tollmesh.transport.behind",
        "{event}",
        "Events of another site not yet taken in.",
        site="which",
    ),
)
