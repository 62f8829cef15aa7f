"""Sends what is due, in the background.

A delivery is claimed under a lease, sent outside of any transaction, and settled in one that only counts while the
claim does. A process that dies in between leaves the lease to run out: the delivery is sent again, under the same
webhook-id, and the attempt that nobody finished is marked as lost.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from services.events import facts
from services.events.adapters.webhooks_sender import ATTEMPT_SECONDS, BODY_SECONDS, Sender
from services.events.app.webhooks import signing_key
from services.events.domain import measures
from services.events.domain import webhooks_bodies as bodies
from services.events.domain import webhooks_policy as policy
from services.events.domain import webhooks_signing as signing
from services.events.domain.feed import FeedEvent
from services.events.domain.webhooks import Answer, DisabledReason, Endpoint, Health, Outcome
from services.events.domain.webhooks_policy import Draw, Settlement
from services.events.domain.webhooks_signing import SigningKey
from services.events.messages import cloudevents
from services.events.store import webhooks as endpoints
from services.events.store import webhooks_delivery as store
from services.events.store.webhooks_delivery import Claim
from services.runtime.clock import Clock
from services.runtime.context import acting, current
from services.runtime.crashpoints import crashpoint
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import DatabaseUnavailable
from services.runtime.ids import new_id
from services.runtime.leases import LeaseLost, Term
from services.runtime.loops import Backoff, Loop
from services.runtime.secrets import SecretBox, SecretDamaged, SecretsKeyMissing
from services.runtime.telemetry import Telemetry, log
from services.runtime.work import Lag, Worker

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
GAP_SECONDS = 0.01
STOP_SECONDS = 5.0
KEPT_FOR = timedelta(days=30)
PRUNE_SECONDS = 600.0
PRUNE_BATCH = 1000
# Attempts beyond the schedule, whose processes died: what takes its process with it every time must end too.
LOST_MAX = 5
PRINCIPAL = "mesh:events.webhooks"
USER_AGENT = "Tollmesh-Webhooks/1"

_START = ("", "")


@dataclass(frozen=True, slots=True)
class Parcel:
    """A delivery, ready to be sent.

    Attributes:
        correlation_id: the chain that its event belongs to.
    """

    url: str
    headers: dict[str, str]
    body: bytes
    correlation_id: str


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


@dataclass(frozen=True, slots=True)
class Sending:
    """A claimed delivery on its way.

    Attributes:
        term: what is left of its lease.
        packing: makes ready what goes to its endpoint now.
    """

    claim: Claim
    term: Term
    packing: asyncio.Task[Mapping[str, Packed]]

    @property
    def tenant_id(self) -> str:
        """Whose endpoint it goes to."""
        return self.claim.tenant_id

    @property
    def correlation_id(self) -> str:
        """Not known before its event is read."""
        return ""

    @property
    def causation_id(self) -> str:
        """The event."""
        return self.claim.event_id

    @property
    def traceparent(self) -> str:
        """Not known before its event is read."""
        return ""

    def __str__(self) -> str:
        return self.claim.attempt_id


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
        self._after = _START
        self._connections = asyncio.Semaphore(CONNECTIONS_MAX)
        self.sending = Worker[Sending](
            "webhooks",
            self,
            database,
            claiming="sending of webhooks",
            serving="settling of webhooks",
            principal_id=PRINCIPAL,
            telemetry=telemetry,
            places=SENDS_MAX,
            batch=SENDS_MAX,
            poll_seconds=POLL_SECONDS,
            eager_seconds=EAGER_SECONDS,
            # One claim for what ends at about the same time.
            gap_seconds=GAP_SECONDS,
            # An attempt is a row; what is due waits for room.
            writes=True,
            # A place is free, and its endpoint may have more.
            wakes_itself=True,
            stop_seconds=STOP_SECONDS,
        )
        self._pruner = Loop(
            "pruning of webhooks",
            self._prune,
            conditions=database.conditions,
            rest_seconds=PRUNE_SECONDS,
            first_seconds=PRUNE_SECONDS,
            backoff=Backoff(1.0, PRUNE_SECONDS),
        )

    def wake(self) -> None:
        """Say that a delivery is about to be committed."""
        self.sending.wake()

    async def start(self) -> None:
        """Begin; the first round takes what a death left behind, once its lease has run out."""
        await self.sending.start()
        self._pruner.start()

    async def stop(self) -> None:
        """Claim no more, give requests that are under way five seconds, and leave the rest to their leases."""
        await asyncio.gather(self.sending.stop(), self._pruner.stop())
        await self._sender.close()

    async def sweep(self) -> int:
        """Send what is due, one round over all endpoints; returns how many, once each was settled."""
        return await self.sending.sweep()

    async def prune(self) -> int:
        """Remove what is older than 30 days; returns how much."""
        gone = 0
        while True:
            async with self._database.across_tenants("webhooks.prune") as work:
                removed = await store.prune(work, work.now - KEPT_FOR, PRUNE_BATCH)
            gone += removed
            if removed < PRUNE_BATCH:
                return gone

    async def _prune(self) -> None:
        await self.prune()

    async def claim(self, _owner: str, limit: int) -> tuple[list[Sending], bool]:
        """Claim deliveries, endpoint by endpoint; says too whether this round over them goes on."""
        term = Term(self._lease_ms)
        ids = [new_id("wha") for _ in range(limit)]
        async with self._database.across_tenants("webhooks.claim") as work:
            claims, after = await store.claim(
                work, ids, self._lease_ms, TENANT_SENDS_MAX, self._after
            )
        self._after = after or _START
        sendings = []
        for of_endpoint in _by_endpoint(claims):
            # One look at the endpoint, its secrets and the events for all that goes to it now.
            packing = asyncio.create_task(self._pack(of_endpoint))
            sendings += [Sending(each, term, packing) for each in of_endpoint]
        return sendings, after is not None

    async def serve(self, sending: Sending) -> None:
        """Send a delivery and write down what came of it."""
        claimed = sending.claim
        # Shielded: others wait for the same.
        parcel = (await asyncio.shield(sending.packing))[claimed.event_id]
        if isinstance(parcel, NotSendable):
            await self._settle(claimed, _not_sent(parcel), for_good=parcel.for_good)
            return
        if not sending.term.covers(ATTEMPT_SECONDS + BODY_SECONDS):
            # Another may claim it before an attempt that begins now has ended, whoever held this process up.
            raise LeaseLost(claimed.attempt_id)
        crashpoint("webhooks.before_send")
        answer = await self._sender.send(parcel.url, parcel.headers, parcel.body)
        crashpoint("webhooks.after_send")
        with acting(replace(current(), correlation_id=parcel.correlation_id)):
            await self._settle(claimed, answer)

    async def failed(self, _sending: Sending, _error: Exception) -> None:
        """Leave it to its lease: then it is claimed again, and counted as an attempt that was lost."""

    async def lag(self) -> Lag:
        """Tell how many deliveries wait."""
        return await store.due_lag(self._database)

    async def _pack(self, claims: Sequence[Claim]) -> Mapping[str, Packed]:
        """Load what goes to one endpoint, and sign it; by event."""
        first = claims[0]
        with acting(self.sending.call(first.tenant_id)):
            async with self._connections, self._database.read() as work:
                endpoint = await endpoints.find(work, first.endpoint_id)
                secrets = (await endpoints.secrets(work, [first.endpoint_id]))[first.endpoint_id]
                events = await store.events(work, claims)
                tenant_id, now = work.tenant_id, work.now
        if endpoint is None:
            gone = NotSendable("the endpoint no longer exists", for_good=True)
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
            measures.ATTEMPTS.name,
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
        work.publish(facts.disabled(after))
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
        return NotSendable("the event is no longer stored", for_good=True)
    if claimed.tries > policy.TRIES_MAX + LOST_MAX:
        return NotSendable(
            "in every attempt the process ended before the response arrived", for_good=True
        )
    described, body = bodies.render(endpoint.format, cloudevents.of_feed(event))
    signed = signing.headers(claimed.event_id, now, body, keys)
    headers = {**described, **signed, "User-Agent": USER_AGENT}
    return Parcel(endpoint.url, headers, body, event.correlation_id)


def _not_sent(reason: NotSendable) -> Answer:
    return Answer(Outcome.NOT_SENT, error=reason.why[:500])
