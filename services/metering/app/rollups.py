"""Rollups of usage: kept up behind ingest, read for answers, and computed again from the events.

They hold what receipts up to one ordinal brought. What comes behind it is added to an answer from its events, so that
an answer is as exact as one from the events alone, at whatever ordinal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from services.metering.domain import log
from services.metering.domain.receipts import CORRECTING
from services.metering.domain.rollups import (
    EVENTS_A_ROUND_MAX,
    EVENTS_OF_HOUR_MAX,
    EVENTS_RENEWED_A_ROUND_MAX,
    EVENTS_VERIFIED_MAX,
    FINDINGS_MAX,
    HOURS_A_ROUND_MAX,
    RECEIPTS_A_ROUND_MAX,
    Opening,
    Part,
    RollupFinding,
    RollupStretch,
    Standing,
    VerifyPlace,
    few_enough,
    merged,
    value,
)
from services.metering.domain.usage import UsageQuery, UsageRow
from services.metering.store import log as log_store
from services.metering.store import rollups as store
from services.metering.store import settings as settings_store
from services.runtime.database import Database, UnitOfWork
from services.runtime.turns import aside
from services.runtime.violations import ViolationReporter

CONTRACT = "metering/rollup-integrity"
FIRST_AT = datetime.min.replace(tzinfo=UTC)
LAST_AT = datetime.max.replace(tzinfo=UTC)
CLEARED_A_ROUND_MAX = 20_000


async def answer(
    work: UnitOfWork,
    query: UsageQuery,
    opening: Opening,
    ordinal: int,
    window_starts: Sequence[datetime],
    rows_max: int,
) -> tuple[list[UsageRow], int, datetime | None] | None:
    """Put the rows of an answer together from rollups.

    Returns them with the ordinal that the rollups stand at, and when the answer's own was recorded. Of more rows than
    `rows_max` the first ones. None where the rollups are of no use: they keep other things apart, are far behind, or
    too much has changed since the ordinal.
    """
    at, skus = opening.serving(query), opening.skus
    if at is None:
        return None
    delta = await store.delta(work, query, at.rolled_ordinal, ordinal)
    if delta is None:
        return None
    found = await store.buckets(
        work, query, skus, at, ordinal, delta.corrected, window_starts, rows_max
    )
    if found is None:
        return None
    made, rolled, recorded_at = found
    edges = [*window_starts, query.end_at]
    others: list[Part] = []
    if made.stretches:
        others += await store.from_stretches(
            work, query, skus, made, ordinal, window_starts, rows_max
        )
    if delta.added:
        others += await store.from_delta(
            work, query, skus, made, delta.added, window_starts, rows_max
        )
    parts = rolled
    if others:
        parts = await aside(len(rolled) + len(others), merged, [*rolled, *others])
    rows = await aside(len(parts), _rows, query, parts[:rows_max], edges)
    return rows, at.rolled_ordinal, recorded_at


def _rows(query: UsageQuery, parts: Sequence[Part], edges: Sequence[datetime]) -> list[UsageRow]:
    return [
        UsageRow(
            sku=part.sku,
            project_id=part.project_id,
            window_start_at=edges[part.window_number - 1],
            window_end_at=edges[part.window_number],
            group={
                key: each
                for key, each in zip(query.group_by, part.groups, strict=True)
                if each is not None
            },
            value=value(query.aggregation, part),
            event_count=part.event_count,
            first_event_at=part.first_event_at,
            last_event_at=part.last_event_at,
        )
        for part in parts
    ]


class Rollups:
    """The rollups of the tenant that the running call acts for."""

    def __init__(self, database: Database, violations: ViolationReporter) -> None:
        self._database = database
        self._violations = violations

    async def verify(self, place: VerifyPlace | None, limit: int) -> RollupStretch:
        """Compute the rollups behind a place again from the events, and tell what is not what these come to.

        Args:
            limit: hours that are looked at.
        """
        findings: list[RollupFinding] = []
        hours = events = 0
        async with self._database.read() as work:
            at = await store.standing(work)
            if at is None:
                return RollupStretch((), 0, 0, 0, None)
            place = place or await _behind(work, at, "", "")
            while (
                place
                and hours < limit
                and events < EVENTS_VERIFIED_MAX
                and len(findings) < FINDINGS_MAX
            ):
                found = await store.hours_of(work, at, place, limit - hours + 1)
                counts = [count for _, count in found[: limit - hours]]
                taken = few_enough(counts, EVENTS_VERIFIED_MAX - events)
                is_last = taken == len(found)
                until_at = LAST_AT if is_last else found[taken][0]
                left = FINDINGS_MAX - len(findings)
                findings += await store.differing(work, at, place, until_at, left)
                hours += taken
                events += sum(counts[:taken])
                if is_last:
                    place = await _behind(work, at, place.org_id, place.sku)
                else:
                    place = replace(place, from_at=until_at)
        for each in findings:
            subject = f"{each.org_id}/{each.sku}"
            bucket = f"{each.minutes} minutes from {each.bucket_at.isoformat()}"
            told = f"{bucket}: expected {each.expected}, found {each.found}"
            self._violations.tell(CONTRACT, "CRITICAL", told, subject)
        return RollupStretch(findings, hours, events, at.rolled_ordinal, place)


async def _behind(
    work: UnitOfWork, at: Standing, after_org: str, after_sku: str
) -> VerifyPlace | None:
    pair = await store.next_pair(work, at, after_org, after_sku)
    return VerifyPlace(*pair, FIRST_AT) if pair else None


async def keep_up(work: UnitOfWork) -> bool:
    """Do some of all that is left to do, however much comes in; says whether there is more."""
    more = await roll_up(work)
    more |= await renew(work)
    more |= await clear(work)
    return more


async def roll_up(work: UnitOfWork) -> bool:
    """Add what the next receipts that have ordinals brought; says whether there is more to do.

    Two at once: the second waits, and goes on behind the first. Dies it before the commit, nothing was added.
    """
    at = await store.lock_state(work)
    # A statement of its own behind the lock, as what follows: it sees what the one before has left.
    keys = (await settings_store.read_settings(work)).rollup_keys
    if keys != at.group_keys:
        await store.begin_generation(work, keys)
        return True
    last_ordinal = (await log_store.position(work)).last_ordinal
    receipts = log.few_enough(
        await log_store.receipts_behind(
            work, at.rolled_ordinal, last_ordinal, RECEIPTS_A_ROUND_MAX
        ),
        EVENTS_A_ROUND_MAX,
    )
    if not receipts:
        return False
    assert receipts[0].ordinal == at.rolled_ordinal + 1, "ordinals have no gap"
    up_to = at.rolled_ordinal + len(receipts)
    brought = [receipt for receipt in receipts if receipt.accepted]
    added = [each.receipt_id for each in brought if each.kind not in CORRECTING]
    corrected = [each.receipt_id for each in brought if each.kind in CORRECTING]
    if added:
        await store.add(work, at, added, up_to)
    if corrected:
        await store.mark_stale(work, corrected)
    await store.advance(work, up_to)
    return up_to < last_ordinal


async def renew(work: UnitOfWork) -> bool:
    """Roll some of the hours up anew that corrections have touched; says whether there are more."""
    at = await store.lock_state(work)
    hours = await store.stale_hours(work, at, HOURS_A_ROUND_MAX + 1, EVENTS_OF_HOUR_MAX)
    counts = [hour.event_count for hour in hours[:HOURS_A_ROUND_MAX]]
    taken = few_enough(counts, EVENTS_RENEWED_A_ROUND_MAX)
    for hour in hours[:taken]:
        await store.renew(work, at, hour)
    return taken < len(hours)


async def clear(work: UnitOfWork) -> bool:
    """Delete some of what is kept by keys of before; says whether there may be more."""
    at = await store.lock_state(work)
    if at.oldest_generation == at.generation:
        return False
    more = await store.clear(work, at, CLEARED_A_ROUND_MAX)
    return more or at.oldest_generation + 1 < at.generation


async def recorded_at(work: UnitOfWork, ordinal: int) -> datetime | None:
    """Return when the receipt with an ordinal was recorded."""
    return await store.recorded_at(work, ordinal) if ordinal else None
