"""What payments need of others: processors, whoever works on payments, the books.

The port to a processor is pure data in, a total function out.

An adapter never raises: what it cannot tell is `Unknown`, and only what certainly never left is `NotSent`. Adapters
get the attempt's id as reference, so that an outcome can be asked for without the processor's own id.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from services.orchestration.domain.booking import Booked, Fact, LedgerTransfer
from services.orchestration.domain.config import MerchantConfig
from services.orchestration.domain.operations import Operation
from services.orchestration.domain.processors import Capabilities, ProcessorConfig
from services.orchestration.domain.webhooks import News
from services.runtime.errors import FieldViolation
from services.runtime.work import Claim


@dataclass(frozen=True, slots=True)
class Order:
    """What a processor is asked to do.

    Attributes:
        idempotency_key: the same for every repeat of this attempt, at most 64 characters.
        merchant_ref: our reference, the attempt's id.
        amount_minor: minor units of the currency.
        token: names the instrument; empty for the one on file.
        parent_key: idempotency key of the success that it follows: what is captured, voided or refunded; else empty.
        parent_ref: the processor's own id of that success.
        closes: true for a capture after which the processor may let go what is left of the authorisation.
        timeout_ms: how long the whole may take; the caller waits no longer, and what an adapter knows by then it must
            have told. 0 leaves that to the caller.
    """

    idempotency_key: str
    merchant_ref: str
    amount_minor: int
    currency: str
    token: str = ""
    parent_key: str = ""
    parent_ref: str = ""
    closes: bool = False
    timeout_ms: int = 0


@dataclass(frozen=True, slots=True)
class Settled:
    """The processor answered with the outcome.

    Attributes:
        done: true when it did what it was asked for, false when it refused.
        error_code: why not: `declined`, `invalid_card`, `unknown`; empty when done.
        failure_code: why not, finer: `insufficient_funds`, …; empty when done.
        retryable: another processor might accept.
        never_again: the issuer forbids to try this instrument again, anywhere.
        provider_ref: the processor's id; may be empty for refusals.
        amount_minor, currency, merchant_ref: what the processor says it acted on; compared with the order.
    """

    done: bool
    provider_ref: str
    amount_minor: int
    currency: str
    merchant_ref: str
    error_code: str = ""
    failure_code: str = ""
    retryable: bool = False
    message: str = ""
    never_again: bool = False


@dataclass(frozen=True, slots=True)
class Pending:
    """The processor took the order and will tell later."""

    provider_ref: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """It is unknown whether the processor acted.

    Attributes:
        provider_ref: the processor's id of what it may have done, where that is known.
    """

    reason: str
    provider_ref: str = ""


@dataclass(frozen=True, slots=True)
class NotSent:
    """The connection was refused before anything was sent: the processor certainly did not act."""

    reason: str


@dataclass(frozen=True, slots=True)
class NotFound:
    """A lookup's answer: the processor has not seen this reference. One early answer proves nothing."""


Verdict = Settled | Pending | Unknown | NotSent
Finding = Settled | Pending | Unknown | NotFound


@dataclass(frozen=True, slots=True)
class Inquiry:
    """What became of an order.

    Attributes:
        operation: what was asked for.
        order: as it was given, or would have been.
        sent_at: when it was given at the earliest.
        provider_ref: the processor's own id, where it told one.
    """

    operation: Operation
    order: Order
    sent_at: datetime
    provider_ref: str = ""

    @property
    def merchant_ref(self) -> str:
        """Our reference, the attempt's id."""
        return self.order.merchant_ref


class Forged(Exception):
    """What came as a processor's word has no signature of it that is right and recent."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """What somebody sent in a processor's name.

    Attributes:
        headers: by name, in small letters.
        body: as it came; the signature is about these bytes.
    """

    headers: Mapping[str, str]
    body: bytes


class Processor(Protocol):
    """An adapter."""

    @property
    def processor_id(self) -> str:
        """Id that configurations name, e.g. `sandbox-card`."""

    @property
    def capabilities(self) -> Capabilities:
        """What may be concluded from its answers."""

    async def ask(self, operation: Operation, order: Order) -> Verdict:
        """Have an operation carried out. The same key again gives the same outcome and moves no more money."""

    async def lookup(self, inquiry: Inquiry) -> Finding:
        """Return the outcome of an order, by our reference.

        An order that was made and not carried out may be called off by the question; what is called off is settled.
        """


class Adapters(Protocol):
    """What there is to speak to processors."""

    @property
    def built_in(self) -> Mapping[str, Processor]:
        """The processors that every merchant may name."""

    @property
    def names(self) -> frozenset[str]:
        """Adapters that configurations may name."""

    def check(self, config: ProcessorConfig) -> list[FieldViolation]:
        """Return what its adapter has against a configuration, by field (`base_url`, `settings[auth]`).

        Raises:
            CredentialUnusable: its credential is not kept for the tenant, or must not go there.
        """

    def build(self, config: ProcessorConfig) -> Processor:
        """Return what speaks to a processor of the tenant; the same for the same configuration."""

    def expects_webhooks(self, config: ProcessorConfig) -> bool:
        """Say whether a processor of the tenant tells things by itself, and secrets are kept to check them with."""

    def hear(self, config: ProcessorConfig, webhook: Webhook) -> News:
        """Read what a processor that is expected to tells by itself.

        Raises:
            Forged: it is not its word.
            InvalidField: it is, and cannot be read.
        """


class Processors(Protocol):
    """The processors of a merchant."""

    async def of(self, merchant_id: str, config_version: int) -> Mapping[str, Processor]:
        """Return those that a version of a configuration may name. Raises DomainError when it cannot be read."""

    def named_by(self, config: MerchantConfig | None) -> Mapping[str, Processor]:
        """Return those that a configuration may name."""

    def owner_of(self, merchant_id: str, processor_id: str) -> str:
        """Return the merchant whose own a processor is that it names; empty for one of every merchant."""


class Runs(Protocol):
    """The payments that this process works on.

    Attributes:
        owner: names it in leases.
    """

    owner: str

    @property
    def full(self) -> bool:
        """True when a further payment is better left to whoever finds it due."""

    def begin(self, lease: Claim) -> object:
        """Work on a payment in the background."""

    async def wait(self, tenant_id: str, payment_id: str, seconds: float) -> bool:
        """Wait until this process stops to work on a payment; False when it does not, or not in time."""


class Books(Protocol):
    """Posts what processors did: the ledger, by its stub."""

    async def check_recipes(self) -> None:
        """Make sure that the ledger posts by recipes, so that it reacts to no payment any more.

        Raises:
            DomainError: it cannot be reached, or is of the release before.
        """

    async def post(self, fact: Fact, request_id: UUID) -> Booked:
        """Post a fact, or find the posting of it that is in the books.

        Raises:
            PaymentNotBookable: the ledger refuses it.
            DomainError: the ledger cannot be reached.
        """

    async def find_transfer(self, transfer_id: UUID) -> LedgerTransfer | None:
        """Return a transfer, or None where there is none. Raises DomainError when the ledger cannot be reached."""
