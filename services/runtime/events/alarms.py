"""When the event log needs a person: pure rules over what was seen of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

# A transaction that is open so long keeps vacuum from every row that was deleted since.
TRANSACTION_SECONDS_MAX = 300.0
XMIN_AGE_MAX = 5_000_000
PREPARED_SECONDS_MAX = 300.0
SLOT_WAL_BYTES_MAX = 8 * 1024**3
TICK_SECONDS_MAX = 60.0
# Counted up to here; a longer queue is long enough.
WAITING_COUNT_MAX = 100_000
WAITING_MIN = 1_000
GROWTHS_MAX = 4


@dataclass(frozen=True, slots=True)
class Condition:
    """What was seen of the log and its database.

    Attributes:
        tick_age_s: seconds since the sequencer's last tick. An idle log has no ticks.
        unsequenced: an event waits for a tick.
        transaction_s: age of the oldest transaction among the sessions that can be seen.
        xmin_age: transactions that began since the oldest snapshot that a session keeps.
        prepared: prepared transactions.
        prepared_s: age of the oldest of them.
        slot_xmin_age: the same as xmin_age, for replication slots.
        slot_wal_bytes: log that is kept for the slot furthest behind.
        strays: rows that lie in a default partition.
        dead_letters: events that some consumer gave up.
        waiting: deliveries that wait, by consumer, counted up to 100,000.
    """

    tick_age_s: float
    unsequenced: bool
    transaction_s: float
    xmin_age: int
    prepared: int
    prepared_s: float
    slot_xmin_age: int
    slot_wal_bytes: int
    strays: int
    dead_letters: int
    waiting: Mapping[str, int]

    def readings(self) -> dict[str, float]:
        """Return each number by its name. The age of the tick is not among them: it grows between two looks."""
        left_out = {"waiting", "tick_age_s"}
        return {name: float(value) for name, value in asdict(self).items() if name not in left_out}


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that a person should look at.

    Attributes:
        name: what is wrong; the same as long as it stays so.
        advice: what to do about it.
        details: the numbers.
    """

    name: str
    advice: str
    details: Mapping[str, float]


@dataclass(slots=True)
class Growth:
    """Which queues have become longer from look to look."""

    last: dict[str, int] = field(default_factory=dict)
    times: dict[str, int] = field(default_factory=dict)

    def update(self, waiting: Mapping[str, int]) -> list[str]:
        """Take in the next look; returns the consumers whose queue is long and has grown four times running."""
        for consumer, count in waiting.items():
            # One that is too long to be counted does not become longer: that it stays so is as bad.
            grew = count > self.last.get(consumer, 0) or count >= WAITING_COUNT_MAX
            self.times[consumer] = self.times.get(consumer, 0) + 1 if grew else 0
        self.last = dict(waiting)
        return sorted(
            consumer
            for consumer, count in waiting.items()
            if count >= WAITING_MIN and self.times[consumer] >= GROWTHS_MAX
        )


def judge(condition: Condition, growth: Growth) -> list[Alarm]:
    """Return what needs a person."""
    c = condition
    rules = [
        (
            c.transaction_s > TRANSACTION_SECONDS_MAX,
            "old_transaction",
            "find it in pg_stat_activity (xact_start) and terminate it: vacuum cannot remove rows deleted since",
            {"transaction_s": c.transaction_s},
        ),
        (
            c.xmin_age > XMIN_AGE_MAX,
            "old_snapshot",
            "find it in pg_stat_activity (backend_xmin) and terminate it: vacuum cannot remove rows deleted since",
            {"xmin_age": float(c.xmin_age)},
        ),
        (
            c.prepared_s > PREPARED_SECONDS_MAX,
            "prepared_transaction",
            "COMMIT PREPARED or ROLLBACK PREPARED the ones in pg_prepared_xacts: the mesh never prepares transactions",
            {"prepared": float(c.prepared), "prepared_s": c.prepared_s},
        ),
        (
            c.slot_xmin_age > XMIN_AGE_MAX or c.slot_wal_bytes > SLOT_WAL_BYTES_MAX,
            "replication_slot",
            "restart the reader of the slot or drop the slot: its WAL fills the disk, its xmin blocks vacuum",
            {
                "slot_xmin_age": float(c.slot_xmin_age),
                "slot_wal_bytes": float(c.slot_wal_bytes),
            },
        ),
        (
            c.strays > 0,
            "default_partition",
            "events are in the default partition; the next maintenance run moves them, up to 50,000 per day",
            {"strays": float(c.strays)},
        ),
        (
            c.unsequenced and c.tick_age_s > TICK_SECONDS_MAX,
            "no_tick",
            "events are waiting and no process sequences them: start the events service, or check its warnings",
            {"tick_age_s": c.tick_age_s},
        ),
    ]
    found = [Alarm(name, advice, details) for holds, name, advice, details in rules if holds]
    for consumer in growth.update(condition.waiting):
        found.append(
            Alarm(
                f"backlog:{consumer}",
                "the consumer does not keep up: check its failing keys, add processes, or speed up its handler",
                {"waiting": float(condition.waiting[consumer])},
            )
        )
    return found
