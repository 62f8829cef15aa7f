"""Configuring webhooks, and looking at what was sent."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from services.events import facts
from services.events.app import types
from services.events.domain import webhooks_signing as signing
from services.events.domain import webhooks_urls as urls
from services.events.domain.webhooks import (
    ENDPOINTS_MAX,
    Attempt,
    ChangeEndpoint,
    CreateEndpoint,
    Delivery,
    DeliveryStatus,
    DisabledReason,
    Endpoint,
    EndpointView,
    Health,
    Outcome,
    Redelivered,
    RedeliverEvent,
    RedeliverPeriod,
    RotateSecret,
    Secret,
    Signing,
    WebhookEndpointDisabled,
    WebhookEndpointsFull,
    rotated,
)
from services.events.domain.webhooks_signing import SigningKey
from services.events.store import webhooks as store
from services.runtime.addresses import AllowList, parse_address
from services.runtime.context import current
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import InvalidField, NotFound
from services.runtime.ids import new_id
from services.runtime.outbox.subjects import Pattern
from services.runtime.secrets import SecretBox

REDELIVERIES_MAX = 1000
# A test that was not sent by then is looked for in the log of attempts.
TEST_SECONDS = 30.0
TEST_POLL_SECONDS = 0.05
# Of a call's time: what it takes to answer.
ANSWER_SECONDS = 0.5
_REDELIVERED = (DeliveryStatus.FAILED, DeliveryStatus.SKIPPED)


class Webhooks:
    """The endpoints of tenants.

    Args:
        box: keeps their secrets.
        allow: where webhooks may go although it is not public.
    """

    def __init__(self, database: Database, box: SecretBox, allow: AllowList) -> None:
        self._database = database
        self._box = box
        self._allow = allow

    async def create(self, command: CreateEndpoint, work: UnitOfWork) -> EndpointView:
        """Make an endpoint and its first secret.

        Raises:
            WebhookUrlRefused: no webhook can go there.
            TypeUnknown: there is no type of a subject.
            WebhookEndpointsFull: the tenant has 50 already.
            SecretsKeyMissing: secrets cannot be kept.
        """
        self._check_url(command.url)
        await _check_subjects(work, command.subjects)
        await store.lock(work)
        if await store.count(work) >= ENDPOINTS_MAX:
            raise WebhookEndpointsFull(
                f"there are {ENDPOINTS_MAX} webhook endpoints already: delete one, or widen the "
                "subjects of another",
                endpoints_max=ENDPOINTS_MAX,
            )
        endpoint = Endpoint(
            endpoint_id=new_id("whe"),
            url=command.url,
            subjects=command.subjects,
            description=command.description,
            format=command.format,
            concurrency=command.concurrency,
            disabled_reason=DisabledReason.NONE,
            disabled_at=None,
            health=Health(),
            created_at=work.now,
            updated_at=work.now,
        )
        await store.insert(work, endpoint)
        work.audit("webhook_endpoint", endpoint.endpoint_id, None, endpoint.as_audited())
        return await self._with_new_secret(work, endpoint, command.signing)

    async def get(self, endpoint_id: str) -> EndpointView:
        """Read an endpoint. Raises NotFound."""
        async with self._database.read() as work:
            return await _view(work, await _found(work, endpoint_id))

    async def page(self, after: str, limit: int) -> list[EndpointView]:
        """Return the first endpoints behind one."""
        async with self._database.read() as work:
            found = await store.page(work, after, limit)
            secrets = await store.secrets(work, [each.endpoint_id for each in found])
        return [EndpointView(each, secrets[each.endpoint_id]) for each in found]

    async def update(self, change: ChangeEndpoint, work: UnitOfWork) -> EndpointView:
        """Change an endpoint.

        Raises:
            NotFound: there is none.
            WebhookUrlRefused: no webhook can go to its new URL.
            TypeUnknown: there is no type of a new subject.
        """
        endpoint_id = change.endpoint_id
        before = await _found(work, endpoint_id, hold=True)
        if change.url is not None:
            self._check_url(change.url)
        await _check_subjects(work, change.subjects or ())
        after = _changed(before, change, work.now)
        if after != before:
            after = replace(after, updated_at=work.now)
            await store.update(work, after)
            work.audit("webhook_endpoint", endpoint_id, before.as_audited(), after.as_audited())
        if after.is_disabled and not before.is_disabled:
            work.publish(facts.disabled(after))
        return await _view(work, after)

    async def delete(self, endpoint_id: str, work: UnitOfWork) -> None:
        """Remove an endpoint; what waits for it is dropped by the next claim. Raises NotFound."""
        before = await _found(work, endpoint_id, hold=True)
        await store.delete(work, endpoint_id)
        work.audit("webhook_endpoint", endpoint_id, before.as_audited(), None)

    async def rotate(self, command: RotateSecret, work: UnitOfWork) -> EndpointView:
        """Make a new secret; earlier ones sign on until the overlap has passed.

        Raises:
            NotFound: there is no such endpoint.
            WebhookSecretsFull: four earlier secrets sign still.
            SecretsKeyMissing: secrets cannot be kept.
        """
        endpoint_id = command.endpoint_id
        endpoint = await _found(work, endpoint_id, hold=True)
        present = (await store.secrets(work, [endpoint_id]))[endpoint_id]
        ends = rotated(endpoint_id, present, work.now, work.now + command.overlap)
        await store.end_secrets(work, endpoint_id, ends)
        for secret in present:
            ended = replace(secret, expires_at=ends[secret.secret_id])
            work.audit(
                "webhook_secret",
                secret.secret_id,
                secret.as_audited(endpoint_id),
                ended.as_audited(endpoint_id),
            )
        return await self._with_new_secret(work, endpoint, command.signing or present[0].signing)

    async def publish_test(self, endpoint_id: str, work: UnitOfWork) -> str:
        """Publish an event for one endpoint; returns its id.

        Raises:
            NotFound: there is no such endpoint.
            WebhookEndpointDisabled: nothing can be sent to it.
        """
        _check_enabled(await _found(work, endpoint_id))
        return work.publish(facts.tested(endpoint_id))

    async def await_test(self, endpoint_id: str, event_id: str) -> Attempt | None:
        """Wait for what came of a test; None when it was not sent within the call's time."""
        give_up_at = time.monotonic() + TEST_SECONDS
        deadline_at = current().deadline_at
        if deadline_at is not None:
            give_up_at = min(give_up_at, deadline_at - ANSWER_SECONDS)
        while True:
            found = await self.attempts(endpoint_id=endpoint_id, event_id=event_id, limit=1)
            if found and found[0].outcome not in (Outcome.SENDING, Outcome.LOST):
                return found[0]
            if time.monotonic() > give_up_at:
                return None
            await asyncio.sleep(TEST_POLL_SECONDS)

    async def deliveries(
        self,
        endpoint_id: str,
        status: DeliveryStatus | None,
        before: tuple[datetime, str] | None,
        limit: int,
    ) -> list[Delivery]:
        """Return the newest deliveries of an endpoint, older than one. Raises NotFound."""
        statuses = list(DeliveryStatus) if status is None else [status]
        async with self._database.read() as work:
            found = await store.deliveries(work, endpoint_id, statuses, before, limit)
            if not found and before is None:
                await _found(work, endpoint_id)
            return found

    async def attempts(
        self,
        *,
        endpoint_id: str = "",
        event_id: str = "",
        outcome: Outcome | None = None,
        before: str = "",
        limit: int,
    ) -> list[Attempt]:
        """Return the newest attempts of some kind, older than one.

        Raises:
            NotFound: there is no such endpoint; of one that was deleted the attempts are still told.
        """
        async with self._database.read() as work:
            found = await store.attempts(
                work,
                endpoint_id=endpoint_id,
                event_id=event_id,
                outcome=outcome,
                before=before,
                limit=limit,
            )
            if not found and endpoint_id and not before:
                await _found(work, endpoint_id)
            return found

    async def redeliver(
        self, command: RedeliverEvent | RedeliverPeriod, work: UnitOfWork
    ) -> Redelivered:
        """Send one event again, or what failed or was skipped in a period.

        Raises:
            NotFound: there is no such endpoint, or it was never to get this event.
            WebhookEndpointDisabled: nothing can be sent to it.
        """
        endpoint_id = command.endpoint_id
        _check_enabled(await _found(work, endpoint_id))
        if isinstance(command, RedeliverEvent):
            if not await store.redeliver_event(work, endpoint_id, command.event_id):
                raise NotFound("webhook delivery of event", command.event_id)
            return Redelivered(1)
        statuses = _REDELIVERED if command.status is None else (command.status,)
        count, more = await store.redeliver_period(
            work, endpoint_id, statuses, command.start_at, command.end_at, REDELIVERIES_MAX
        )
        return Redelivered(count, more)

    def _check_url(self, url: str) -> None:
        target = urls.read(url)
        urls.check(target, listed=self._allow.covers_host(target.host, target.port))
        address = parse_address(target.host) if target.is_literal else None
        if address and not self._allow.permits(target.host, address, target.port):
            raise urls.refusal(
                "public", f"{address} is not public, and the operator has not allowed it"
            )

    async def _with_new_secret(
        self, work: UnitOfWork, endpoint: Endpoint, kind: Signing
    ) -> EndpointView:
        key = SigningKey(kind, os.urandom(signing.KEY_BYTES))
        secret_id = new_id("whs")
        secret = Secret(
            secret_id=secret_id,
            signing=kind,
            sealed=self._box.seal(key.key, _place(work.tenant_id, endpoint.endpoint_id, secret_id)),
            public_key=signing.public_key(key),
            created_at=work.now,
            expires_at=None,
        )
        await store.insert_secret(work, endpoint.endpoint_id, secret)
        work.audit("webhook_secret", secret_id, None, secret.as_audited(endpoint.endpoint_id))
        return replace(await _view(work, endpoint), secret=signing.verification_key(key))


def signing_key(box: SecretBox, tenant_id: str, secret: Secret, endpoint_id: str) -> SigningKey:
    """Open a secret to sign with.

    Raises:
        SecretsKeyMissing: its key is not set.
        SecretDamaged: it was changed.
    """
    place = _place(tenant_id, endpoint_id, secret.secret_id)
    return SigningKey(secret.signing, box.open(secret.sealed, place))


def _place(tenant_id: str, endpoint_id: str, secret_id: str) -> str:
    """Name the place that a secret belongs to: nowhere else does it open."""
    return f"events.webhook_secret/{tenant_id}/{endpoint_id}/{secret_id}"


async def _found(work: UnitOfWork, endpoint_id: str, *, hold: bool = False) -> Endpoint:
    endpoint = await store.find(work, endpoint_id, hold=hold)
    if endpoint is None:
        raise NotFound("webhook endpoint", endpoint_id)
    return endpoint


async def _view(work: UnitOfWork, endpoint: Endpoint) -> EndpointView:
    secrets = await store.secrets(work, [endpoint.endpoint_id])
    return EndpointView(endpoint, secrets[endpoint.endpoint_id])


def _check_enabled(endpoint: Endpoint) -> None:
    if endpoint.is_disabled:
        raise WebhookEndpointDisabled(
            f"{endpoint.endpoint_id} is disabled: enable it first",
            endpoint_id=endpoint.endpoint_id,
        )


async def _check_subjects(work: UnitOfWork, subjects: Sequence[str]) -> None:
    patterns = []
    for index, subject in enumerate(subjects):
        try:
            patterns.append(Pattern.parse(subject))
        except ValueError as error:
            raise InvalidField.one(f"subjects[{index}]", str(error)) from error
    await types.check_subjects(work, patterns)


def _changed(before: Endpoint, change: ChangeEndpoint, now: datetime) -> Endpoint:
    """Return the endpoint after a change. A new URL, or enabling it, forgets the failures."""
    after = replace(
        before,
        url=before.url if change.url is None else change.url,
        subjects=before.subjects if change.subjects is None else change.subjects,
        description=before.description if change.description is None else change.description,
        format=before.format if change.format is None else change.format,
        concurrency=before.concurrency if change.concurrency is None else change.concurrency,
    )
    if after.url != before.url:
        after = replace(after, health=Health())
    if change.disabled and not before.is_disabled:
        return replace(after, disabled_reason=DisabledReason.REQUESTED, disabled_at=now)
    if change.disabled is False and before.is_disabled:
        return replace(
            after, disabled_reason=DisabledReason.NONE, disabled_at=None, health=Health()
        )
    return after
