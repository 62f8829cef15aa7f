"""Takes what processors tell by themselves: checked, taken once, and asked about before it is believed."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass

from services.orchestration.app.asking import bounded, heard_of, inquiry_of
from services.orchestration.app.findings import ApplyFinding
from services.orchestration.domain.findings import NOTHING, Heard, Word
from services.orchestration.domain.instructions import PaymentUnderWay, under_way
from services.orchestration.domain.payment import Attempt
from services.orchestration.domain.processors import ProcessorConfig
from services.orchestration.domain.record import Payment
from services.orchestration.domain.webhooks import (
    News,
    Received,
    SignatureInvalid,
    WebhookOutcome,
    WebhooksNotExpected,
    attempts_named,
    concerned,
    not_expected,
    signature_invalid,
    silent,
)
from services.orchestration.ports import (
    Adapters,
    Finding,
    Forged,
    Pending,
    Processors,
    Runs,
    Settled,
    Unknown,
    Webhook,
)
from services.orchestration.store import configs, payments
from services.orchestration.store import webhooks as store
from services.runtime.commands import Commands
from services.runtime.context import current
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import InvalidField, NotFound
from services.runtime.turns import in_slices

# A webhook often overtakes the answer of the call that it tells of: whoever waits for that is given this long.
WAIT_SECONDS_MAX = 5.0
_GAP_SECONDS = 0.2
# Signatures that are checked before others have their turn.
ACCOUNTS_AT_ONCE = 20


@dataclass(frozen=True, slots=True)
class _Word:
    """A processor's word, with the event that brought it.

    Attributes:
        attempt_id: what the event is about; empty for none of the account that told of it.
        is_last: with it the event is taken.
    """

    processor_id: str
    event_id: str
    attempt_id: str
    heard: Heard | None
    is_last: bool


class ReceiveWebhook:
    """Takes one request of a processor."""

    def __init__(
        self,
        database: Database,
        commands: Commands,
        adapters: Adapters,
        processors: Processors,
        runs: Runs,
        apply: ApplyFinding,
    ) -> None:
        self._database = database
        self._commands = commands
        self._adapters = adapters
        self._processors = processors
        self._runs = runs
        self._apply = apply

    async def __call__(self, processor_id: str, webhook: Webhook) -> Received:
        """Check a request, ask the processor what became of what it tells of, and apply the answer.

        The event itself never decides: whatever comes late, twice or out of order is answered by how things are now.

        Raises:
            NotFound: no merchant of the tenant has such a processor.
            WebhooksNotExpected, SignatureInvalid: it is not the processor's, as far as can be told.
            InvalidField: it is no event.
            PaymentUnderWay: a worker keeps the payment; the event is to be sent again.
            ProcessorSilent: the processor does not answer; the event is to be sent again.
        """
        accounts, news = await self._from(processor_id, webhook)
        async with self._database.read() as work:
            known = await store.is_known(work, processor_id, news.event_id, news.merchant_ref)
        if known:
            return Received(news.event_id, WebhookOutcome.REPEATED)
        until = time.monotonic() + WAIT_SECONDS_MAX
        asked: set[str] = set()
        applied = False
        while True:
            found = await self._concerned(accounts, news)
            left = [] if found is None else [a for a in found[1] if a.attempt_id not in asked]
            payment_id = "" if found is None else found[0].payment_id
            heard = None
            if found is not None and left:
                if await self._under_way(payment_id):
                    # Whoever works on it hears the same, and a question could call off what it is about to do.
                    if time.monotonic() >= until:
                        raise under_way(found[0])
                    await self._wait(payment_id)
                    continue
                heard = await self._asked(found[0], left[0])
            attempt_id = "" if found is None else news.merchant_ref
            word = _Word(processor_id, news.event_id, attempt_id, heard, len(left) <= 1)
            try:
                came = await self._commands.apply("orchestration.webhook", self._take, word)
            except PaymentUnderWay:
                if found is None or time.monotonic() >= until:
                    raise
                await self._wait(payment_id)
                continue
            if left:
                asked.add(left[0].attempt_id)
            applied |= came is WebhookOutcome.APPLIED
            if not word.is_last:
                continue
            if applied and came is WebhookOutcome.IGNORED:
                came = WebhookOutcome.APPLIED
            return Received(news.event_id, came, payment_id)

    async def _from(
        self, processor_id: str, webhook: Webhook
    ) -> tuple[list[ProcessorConfig], News]:
        """Find the accounts that may have signed a request, and read it.

        Those that were sent what it names come first: they are found by a key, however many accounts a name has.

        Raises:
            NotFound, WebhooksNotExpected, SignatureInvalid, InvalidField: as `__call__` does.
        """
        if named := attempts_named(webhook.body):
            async with self._database.read() as work:
                sent_to = await store.processors_sent_to(work, processor_id, named)
            # What they cannot read may be the word of another account, which only names their attempt.
            with suppress(SignatureInvalid, WebhooksNotExpected, InvalidField):
                return await self._checked(processor_id, sent_to, webhook)
        async with self._database.read() as work:
            others = await store.processors_named(work, processor_id)
        if not others:
            raise NotFound("processor", processor_id)
        return await self._checked(processor_id, others, webhook)

    async def _checked(
        self, processor_id: str, named: list[ProcessorConfig], webhook: Webhook
    ) -> tuple[list[ProcessorConfig], News]:
        """Find the accounts that may have signed a request; merchants that share one keep the same secret.

        Raises:
            WebhooksNotExpected, SignatureInvalid, InvalidField: as `__call__` does.
        """
        expected = False
        unread: InvalidField | None = None
        heard: list[tuple[ProcessorConfig, News]] = []
        async for config in in_slices(named, ACCOUNTS_AT_ONCE):
            if not self._adapters.expects_webhooks(config):
                continue
            expected = True
            try:
                heard.append((config, self._adapters.hear(config, webhook)))
            except Forged:
                continue
            except InvalidField as error:
                # Another account of the same secret may read it in another way.
                unread = unread or error
        if not heard:
            raise unread or (
                signature_invalid(processor_id) if expected else not_expected(processor_id)
            )
        news = next((each for _, each in heard if each.merchant_ref), heard[0][1])
        return [config for config, each in heard if each == news], news

    async def _concerned(
        self, accounts: list[ProcessorConfig], news: News
    ) -> tuple[Payment, list[Attempt]] | None:
        """Return the payment that an event is about, and which of its attempts it may change.

        None when it is none of what was sent to these very accounts: an account speaks of its own only.
        """
        if not news.merchant_ref:
            return None
        async with self._database.read() as work:
            payment_id = await store.payment_of(work, news.merchant_ref)
            if payment_id is None:
                return None
            (payment,) = await payments.load(work, [payment_id])
            version = payment.config_version
            stored = await configs.find_configs(work, payment.merchant_id, version=version)
        (attempt,) = (a for a in payment.work.attempts if a.attempt_id == news.merchant_ref)
        sent_to = {
            (each.processor_id, each.adapter, each.credential_ref)
            for found in stored
            for each in found.config.processors
            if each.processor_id == attempt.processor_id
        }
        if not any(
            (each.processor_id, each.adapter, each.credential_ref) in sent_to for each in accounts
        ):
            return None
        return payment, concerned(payment, attempt)

    async def _asked(self, payment: Payment, attempt: Attempt) -> Heard | None:
        """Ask what became of an attempt; None when there is nothing to tell. Raises ProcessorSilent."""
        of_merchant = await self._processors.of(payment.merchant_id, payment.config_version)
        processor = of_merchant.get(attempt.processor_id)
        if processor is None or not processor.capabilities.lookup_by_ref:
            return None
        finding: Finding = await bounded(processor.lookup(inquiry_of(payment, attempt)), payment)
        match finding:
            case Settled():
                return heard_of(finding)
            case Pending(provider_ref):
                return Heard(Word.PENDING, attempt.attempt_id, provider_ref=provider_ref)
            case Unknown():
                raise silent(attempt)
        return None

    async def _take(self, word: _Word, work: UnitOfWork) -> WebhookOutcome:
        """Apply a word beside the event that brought it; REPEATED when the event was taken before."""
        if word.is_last and not await store.take(
            work, word.processor_id, word.event_id, word.attempt_id
        ):
            return WebhookOutcome.REPEATED
        if word.heard is None or await self._apply(word.heard, work) == NOTHING:
            return WebhookOutcome.IGNORED
        return WebhookOutcome.APPLIED

    async def _under_way(self, payment_id: str) -> bool:
        async with self._database.read() as work:
            return await store.is_under_way(work, payment_id)

    async def _wait(self, payment_id: str) -> None:
        if not await self._runs.wait(current().tenant_id, payment_id, _GAP_SECONDS):
            await asyncio.sleep(_GAP_SECONDS)
