"""Sends what is due, in the background.

A delivery is claimed under a lease, sent outside of any transaction, and settled in one that only counts while the
claim does. A process that dies in between leaves the lease to run out: the delivery is sent again, under the same
webhook-id, and the attempt that nobody finished is marked as lost.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from services.events import cloudevents
from services.events.app.webhooks import publish_disabled, signing_key
from services.events.app.webhooks_sender import ATTEMPT_SECONDS, BODY_SECONDS, Sender
from services.events.domain import webhooks_bodies as bodies
from services.events.domain import webhooks_policy as policy
from services.events.domain import webhooks_signing as signing
from services.events.domain.feed import FeedEvent
from services.events.domain.webhooks import Answer, DisabledReason, Endpoint, Health, Outcome
from services.events.domain.webhooks_policy import Draw, Settlement
from services.events.domain.webhooks_signing import SigningKey
from services.events.store import webhooks as endpoints
from services.events.store import webhooks_delivery as store
from services.events.store.webhooks_delivery import Claim
from services.runtime.clock import Clock
from services.runtime.context import CallContext, acting
from services.runtime.crashpoints import crashpoint
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import DatabaseUnavailable
from services.runtime.ids import new_id
from services.runtime.interruptions import Interruptions
from services.runtime.loops import Backoff, Loop, stop_all
from services.runtime.secrets import SecretBox, SecretDamaged, SecretsKeyMissing
from services.runtime.telemetry import Telemetry, log

SENDS_MAX = 64
"""Requests under way in one process; each holds its body, at most a megabyte, and 16 KiB of the answer."""
TENANT_SENDS_MAX = 32
"""Requests of one tenant under way in all processes: who has endpoints that hang leaves places to others."""
# Of the database's connections, which the calls of this process need too.
CONNECTIONS_MAX = 4
# Before a result that could not be written down is written down once more; then it is left to the lease.
RECORD_AGAIN_SECONDS = (0.5, 2.0, 5.0)
LEASE_MS = 60_000
# What another process queued, and retries, ring no bell here.
POLL_SECONDS = 1.0
# After something was queued in this process: its transaction is about to commit.
EAGER_SECONDS = 1.0
EAGER_POLL_SECONDS = 0.03
GAP_SECONDS = 0.01
STOP_SECONDS = 5.0
KEPT_FOR = timedelta(days=30)
PRUNE_SECONDS = 600.0
PRUNE_BATCH = 1000
# Attempts beyond the schedule, whose processes died: what takes its process with it every time must end too.
LOST_MAX = 5
PRINCIPAL = "mesh:events.webhooks"
USER_AGENT = "Tollmesh-Webhooks/1"
ATTEMPT_METRIC = "tollmesh.webhooks.attempt.duration"

_START = ("", "")


@dataclass(frozen=True, slots=True)
class Parcel:
    """A delivery, ready to be sent."""

    url: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class NotSendable:
    """Nothing can be sent, for a reason on our side.

    Attributes:
        why: the reason, in words.
        for_good: true when waiting changes nothing.
    """

    why: str
    for_good: bool


Packed = Parcel | NotSendable


class WebhookWorker:
    """The deliveries that this process sends, at most 64 at once; more wait in the table.

    Args:
        box: opens the endpoints' secrets.
        telemetry: told of each attempt.
        draw: randomness of the jitter, from 0 up to 1.
        lease_ms: how long a delivery is this process's; longer than an attempt may take.
    """

    def __init__(
        self,
        database: Database,
        sender: Sender,
        box: SecretBox,
        clock: Clock,
        *,
        telemetry: Telemetry,
        draw: Draw = random.random,
        lease_ms: int = LEASE_MS,
    ) -> None:
        self._database = database
        self._sender = sender
        self._box = box
        self._clock = clock
        self._telemetry = telemetry
        self._draw = draw
        self._lease_ms = lease_ms
        conditions = database.conditions
        self._settling = Interruptions("settling of webhooks", conditions)
        self._after = _START
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections = asyncio.Semaphore(CONNECTIONS_MAX)
        self._eager_until = 0.0
        self._loop = Loop(
            "sending of webhooks",
            self._begin,
            conditions=conditions,
            rest_seconds=POLL_SECONDS,
            # One claim for what ends at about the same time.
            gap_seconds=GAP_SECONDS,
            # An attempt is a row; what is due waits for room.
            writes=True,
            # A claim that is being committed would be nobody's until its lease runs out.
            stop_seconds=STOP_SECONDS,
        )
        self._pruner = Loop(
            "pruning of webhooks",
            self._prune,
            conditions=conditions,
            rest_seconds=PRUNE_SECONDS,
            first_seconds=PRUNE_SECONDS,
            backoff=Backoff(1.0, PRUNE_SECONDS),
        )

    def wake(self) -> None:
        """Say that a delivery is about to be committed."""
        self._eager_until = time.monotonic() + EAGER_SECONDS
        self._loop.wake()

    async def start(self) -> None:
        """Begin; the first round takes what a death left behind, once its lease has run out."""
        self._loop.start()
        self._pruner.start()

    async def stop(self) -> None:
        """Claim no more, give requests that are under way five seconds, and leave the rest to their leases."""
        await stop_all(self._loop, self._pruner)
        await _ended(self._tasks)
        await self._sender.close()

    async def sweep(self) -> int:
        """Send what is due, one round over all endpoints; returns how many, once each was settled."""
        sent = 0
        while True:
            tasks, more = await self._take()
            if tasks:
                await asyncio.wait(tasks)
            sent += len(tasks)
            if not more:
                return sent

    async def prune(self) -> int:
        """Remove what is older than 30 days; returns how much."""
        gone = 0
        with acting(_acting_for("mesh", "")):
            while True:
                async with self._database.unit_of_work("webhooks.prune") as work:
                    removed = await store.prune(work, work.now - KEPT_FOR, PRUNE_BATCH)
                gone += removed
                if removed < PRUNE_BATCH:
                    return gone

    async def _begin(self) -> float | None:
        """Begin what is due; returns how long to wait for the next round, which an end of a request brings on."""
        _, busy = await self._take()
        if len(self._tasks) >= SENDS_MAX:
            return None
        if busy:
            return 0
        return EAGER_POLL_SECONDS if time.monotonic() < self._eager_until else None

    async def _prune(self) -> None:
        await self.prune()

    async def _take(self) -> tuple[list[asyncio.Task[None]], bool]:
        """Claim and begin to send; returns what was begun, and whether this round goes on."""
        free = SENDS_MAX - len(self._tasks)
        if free <= 0:
            return [], False
        claimed_at = time.monotonic()
        ids = [new_id("wha") for _ in range(free)]
        with acting(_acting_for("mesh", "")):
            async with self._database.unit_of_work("webhooks.claim") as work:
                claims, after = await store.claim(
                    work, ids, self._lease_ms, TENANT_SENDS_MAX, self._after
                )
        self._after = after or _START
        tasks = []
        for of_endpoint in _by_endpoint(claims):
            # One look at the endpoint, its secrets and the events for all that goes to it now.
            packing = asyncio.create_task(self._pack(of_endpoint))
            tasks += [
                asyncio.create_task(self._deliver(each, claimed_at, packing))
                for each in of_endpoint
            ]
        for task in tasks:
            self._tasks.add(task)
            task.add_done_callback(self._forget)
        return tasks, after is not None

    def _forget(self, done: asyncio.Task[None]) -> None:
        self._tasks.discard(done)
        # A place is free, and its endpoint may have more.
        self._loop.wake()
        if done.cancelled():
            return
        if (error := done.exception()) is not None:
            # The lease runs out, and the delivery is claimed again.
            self._settling.failed(error)
        else:
            self._settling.works()

    async def _deliver(
        self, claimed: Claim, claimed_at: float, packing: asyncio.Task[Mapping[str, Packed]]
    ) -> None:
        with acting(_acting_for(claimed.tenant_id, claimed.event_id)):
            # Shielded: others wait for the same.
            parcel = (await asyncio.shield(packing))[claimed.event_id]
            if isinstance(parcel, NotSendable):
                await self._settle(claimed, _not_sent(parcel), for_good=parcel.for_good)
                return
            if not self._in_time(claimed_at):
                log.info("webhook_lease_lost", attempt_id=claimed.attempt_id)
                return
            crashpoint("webhooks.before_send")
            answer = await self._sender.send(parcel.url, parcel.headers, parcel.body)
            crashpoint("webhooks.after_send")
            await self._settle(claimed, answer)

    def _in_time(self, claimed_at: float) -> bool:
        """True while an attempt that begins now ends before the lease does, whoever held this process up."""
        left = self._lease_ms / 1000 - (time.monotonic() - claimed_at)
        return left > ATTEMPT_SECONDS + BODY_SECONDS

    async def _pack(self, claims: Sequence[Claim]) -> Mapping[str, Packed]:
        """Load what goes to one endpoint, and sign it; by event."""
        first = claims[0]
        with acting(_acting_for(first.tenant_id, "")):
            async with self._connections, self._database.read() as work:
                endpoint = await endpoints.find(work, first.endpoint_id)
                secrets = (await endpoints.secrets(work, [first.endpoint_id]))[first.endpoint_id]
                events = await store.events(work, claims)
                tenant_id, now = work.tenant_id, work.now
        if endpoint is None:
            gone = NotSendable("the endpoint is not kept any more", for_good=True)
            return {each.event_id: gone for each in claims}
        try:
            keys = [signing_key(self._box, tenant_id, each, first.endpoint_id) for each in secrets]
        except (SecretsKeyMissing, SecretDamaged) as error:
            log.error("webhook_secret_closed", endpoint_id=first.endpoint_id, error=str(error))
            closed = NotSendable(f"the signing secret cannot be read: {error}", for_good=False)
            return {each.event_id: closed for each in claims}
        return {
            each.event_id: _packed(endpoint, each, events.get(each.event_id), keys, now)
            for each in claims
        }

    async def _settle(self, claimed: Claim, answer: Answer, *, for_good: bool = False) -> None:
        """Write down what came of an attempt; a database that is away for a moment is waited for."""
        self._telemetry.duration(
            ATTEMPT_METRIC,
            answer.latency_ms / 1000,
            outcome=answer.outcome.value.lower(),
            # Of which kind is enough: whose it was tells the log of attempts.
            status=f"{answer.status_code // 100}xx" if answer.status_code else "",
        )
        for wait_seconds in RECORD_AGAIN_SECONDS:
            try:
                return await self._record(claimed, answer, for_good=for_good)
            except DatabaseUnavailable:
                await asyncio.sleep(wait_seconds)
        return await self._record(claimed, answer, for_good=for_good)

    async def _record(self, claimed: Claim, answer: Answer, *, for_good: bool) -> None:
        """Write down what came of an attempt, and what follows from it."""
        async with self._connections, self._database.unit_of_work("webhooks.record") as work:
            endpoint = await _endpoint_of(work, claimed, answer)
            health = Health() if endpoint is None else endpoint.health
            settlement = policy.settle(
                answer,
                claimed.tries,
                health,
                work.now,
                self._draw,
                is_test=claimed.is_test or for_good,
            )
            if await store.settle(work, claimed, settlement) and endpoint is not None:
                await _keep(work, endpoint, settlement)
            await store.finish(work, claimed, answer)


async def _ended(tasks: Collection[asyncio.Task[None]]) -> None:
    """Wait for tasks for some seconds, then end them."""
    if not tasks:
        return
    _, late = await asyncio.wait(tasks, timeout=STOP_SECONDS)
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)


async def _endpoint_of(work: UnitOfWork, claimed: Claim, answer: Answer) -> Endpoint | None:
    """Return the endpoint, held if it may have to be changed: before the delivery, as a claim holds them."""
    if answer.outcome is Outcome.SUCCEEDED:
        endpoint = await endpoints.find(work, claimed.endpoint_id)
        if endpoint is None or endpoint.health == Health():
            return endpoint
    return await endpoints.find(work, claimed.endpoint_id, hold=True)


async def _keep(work: UnitOfWork, endpoint: Endpoint, settlement: Settlement) -> None:
    """Store how an endpoint fares, if that changed, and disable it if it has to be."""
    after = replace(endpoint, health=settlement.health)
    if settlement.disable is not DisabledReason.NONE and not endpoint.is_disabled:
        after = replace(after, disabled_reason=settlement.disable, disabled_at=work.now)
        work.audit(
            "webhook_endpoint", endpoint.endpoint_id, endpoint.as_audited(), after.as_audited()
        )
        publish_disabled(work, after)
    if after != endpoint:
        await endpoints.update(work, after)


def _by_endpoint(claims: Sequence[Claim]) -> list[list[Claim]]:
    found: dict[tuple[str, str], list[Claim]] = {}
    for claimed in claims:
        found.setdefault((claimed.tenant_id, claimed.endpoint_id), []).append(claimed)
    return list(found.values())


def _packed(
    endpoint: Endpoint,
    claimed: Claim,
    event: FeedEvent | None,
    keys: Sequence[SigningKey],
    now: datetime,
) -> Packed:
    """Render and sign one delivery."""
    if event is None:
        return NotSendable("the event is not kept any more", for_good=True)
    if claimed.tries > policy.TRIES_MAX + LOST_MAX:
        return NotSendable("no process lived to see the answer of any attempt", for_good=True)
    described, body = bodies.render(endpoint.format, cloudevents.of_feed(event))
    signed = signing.headers(claimed.event_id, now, body, keys)
    return Parcel(endpoint.url, {**described, **signed, "User-Agent": USER_AGENT}, body)


def _not_sent(reason: NotSendable) -> Answer:
    return Answer(Outcome.NOT_SENT, error=reason.why[:500])


def _acting_for(tenant_id: str, causation_id: str) -> CallContext:
    request_id = new_id("run")
    return CallContext(
        tenant_id=tenant_id,
        principal_id=PRINCIPAL,
        scopes=frozenset(),
        request_id=request_id,
        correlation_id=request_id,
        causation_id=causation_id,
    )
