"""Subscriptions, and what a new one is given of the feed that is there already.

A subscription changes under the lock of the tick, so that each event meets either the old or the new set. What lies in
the feed by then is filled in afterwards, page by page and without that lock: until the last page the
consumer's lanes are shut, so nobody handles a later event of a key before an earlier one is in. How far the filling
got is a row; whoever comes next goes on with it, whichever process began.
"""

from __future__ import annotations

from services.runtime.crashpoints import crashpoint
from services.runtime.events import relay
from services.runtime.events.bus import EventBus
from services.runtime.events.envelope import Reaction
from services.runtime.events.relay import Relay
from services.runtime.loops import Loop
from services.runtime.postgres.session import Session

PAGE_MAX = 20_000
# Of one statement under the tick's lock, which waits for transactions that handle events, and of one page.
CHANGE_MS_MAX = 60_000
# What a process that ended left half-way is looked for so often.
POLL_SECONDS = 30.0
STOP_SECONDS_MAX = 15.0


async def subscribe(session: Session, reaction: Reaction) -> None:
    """Make the consumer's subscriptions what its reaction says now."""
    patterns = reaction.patterns()
    wanted = {
        "consumer": reaction.consumer,
        "texts": [pattern.text for pattern in patterns],
        "prefixes": [pattern.is_prefix for pattern in patterns],
    }
    async with relay.transaction(session, CHANGE_MS_MAX):
        end = await relay.row(session, "hold_feed")
        assert end is not None, "the migration makes the row of the tick"
        await relay.changed(
            session,
            "register_consumer",
            consumer=reaction.consumer,
            replayable=reaction.replayable,
            parks_keys=reaction.on_dead == "park_key",
            by_tenant=reaction.by_tenant,
        )
        await relay.changed(session, "drop_subscriptions", **wanted)
        added = await relay.rows(session, "add_subscriptions", **wanted)
        if not added:
            return
        await relay.changed(session, "shut_lanes", consumer=reaction.consumer)
        await relay.changed(
            session,
            "begin_back_fill",
            consumer=reaction.consumer,
            texts=[row["text"] for row in added],
            prefixes=[row["is_prefix"] for row in added],
            last_position=end["position"],
        )


async def fill_page(session: Session, page_max: int = PAGE_MAX) -> bool:
    """Give a new subscription the next page of the feed; False when none waits for one.

    After its last page the consumer's lanes are opened.
    """
    async with relay.transaction(session, CHANGE_MS_MAX):
        found = await relay.row(session, "hold_back_fill")
        if found is None:
            return False
        await relay.rows(session, "take_turns", consumer=found["consumer"])
        await relay.rows(session, "keep_days")
        if not await relay.changed(session, "fill_page", **found, limit=page_max):
            await relay.changed(
                session,
                "end_back_fill",
                consumer=found["consumer"],
                back_fill_id=found["back_fill_id"],
            )
        crashpoint("events.back_fill.before_commit")
    crashpoint("events.back_fill.after_commit")
    return True


class BackFill:
    """Fills in what new subscriptions of any process still lack."""

    def __init__(self, relay_: Relay, bus: EventBus) -> None:
        self._relay = relay_
        self._bus = bus
        self.loop = Loop(
            "back-fill",
            self._fill,
            conditions=relay_.conditions,
            rest_seconds=POLL_SECONDS,
            writes=True,
            stop_seconds=STOP_SECONDS_MAX,
        )

    async def _fill(self) -> None:
        filled = False
        # The row tells how far it got.
        async with await self._relay.control(statement_ms=CHANGE_MS_MAX) as session:
            while not self.loop.is_stopping() and not self._relay.conditions.storage_low:
                if not await fill_page(session):
                    break
                filled = True
                self.loop.works()
        if filled:
            # The lanes are open now.
            self._bus.moved()
