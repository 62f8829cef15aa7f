"""What payments need of others: processors, whoever works on payments, the books.

The port to a processor is pure data in, a total function out.

An adapter never raises: what it cannot tell is `Unknown`, and only what certainly never left is `NotSent`. Adapters
get the attempt's id as reference, so that an outcome can be asked for without the processor's own id.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from services.orchestration.domain.booking import Booked, Fact, LedgerTransfer
from services.orchestration.domain.operations import Operation
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
    """

    idempotency_key: str
    merchant_ref: str
    amount_minor: int
    currency: str
    token: str = ""
    parent_key: str = ""
    parent_ref: str = ""
    closes: bool = False


@dataclass(frozen=True, slots=True)
class Settled:
    """The processor answered with the outcome.

    Attributes:
        done: true when it did what it was asked for, false when it refused.
        error_code: why not: `declined`, `invalid_card`, `unknown`; empty when done.
        failure_code: why not, finer: `insufficient_funds`, …; empty when done.
        retryable: another processor might accept.
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


@dataclass(frozen=True, slots=True)
class Pending:
    """The processor took the order and will tell later."""

    provider_ref: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """It is unknown whether the processor acted."""

    reason: str


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
class Capabilities:
    """What may be concluded from a processor's answers.

    Attributes:
        settle_window: so long after a call can last have arrived, its books are complete: two answers "not
            found" later than that prove that nothing was charged.
        holds: it can authorise an amount, and capture or void it later.
        lookup_by_ref: it can be asked what became of an order, by our reference.
        replay_key: the same order under the same key gets the outcome of the first, and moves no more money.
        key_ttl: for so long after it was first sent, at least, it knows a key.
    """

    settle_window: timedelta
    holds: bool = False
    lookup_by_ref: bool = True
    replay_key: bool = False
    key_ttl: timedelta = timedelta(0)


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

    async def lookup(self, merchant_ref: str) -> Finding:
        """Return the outcome of an order, by our reference."""


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
