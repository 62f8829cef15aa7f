"""Processors that move no money and keep books like real ones.

Their books (`sandbox_order`) are written in transactions of their own, never in the payment's: they are the
other side. They survive our death, dedupe by idempotency key, and tell by lookup what became of an order, so a lost
or a doubled charge can be seen in them. What they answer follows the token, see docs/guides/sandbox-processors.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Any

from services.orchestration.domain.operations import RULES, Operation
from services.orchestration.domain.processors import Capabilities
from services.orchestration.ports import (
    Finding,
    Inquiry,
    NotFound,
    NotSent,
    Order,
    Pending,
    Processor,
    Settled,
    Unknown,
    Verdict,
)
from services.runtime.database import Database, UnitOfWork
from services.runtime.ids import derived_id
from services.runtime.postgres import sql

_SQL = sql.load("services.orchestration", "queries.sql")


class Delivery(Enum):
    """What happens between us and the processor."""

    ANSWERED = auto()
    REPLY_LOST = auto()
    ORDER_LOST = auto()
    REFUSED_CONNECTION = auto()
    ANSWERED_LATER = auto()
    REPLY_LOST_BOOKS_LATE = auto()


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How a processor treats an order.

    Attributes:
        error_code: why it refuses; empty when it does what it is asked for.
        failure_code: the same, finer.
        retryable: whether another processor might accept.
        never_again: whether the issuer forbids to try again.
        delay_seconds: how long it thinks before it answers; its books are written first.
    """

    delivery: Delivery = Delivery.ANSWERED
    error_code: str = ""
    failure_code: str = ""
    retryable: bool = False
    message: str = "approved"
    delay_seconds: float = 0.0
    never_again: bool = False


APPROVE = Behaviour()
CHARGE_TOKENS: Mapping[str, Behaviour] = {
    "": APPROVE,
    "tok_approve": APPROVE,
    "tok_decline": Behaviour(
        error_code="declined", failure_code="declined", message="do not honour"
    ),
    "tok_soft_decline": Behaviour(
        error_code="declined", failure_code="declined", retryable=True, message="try elsewhere"
    ),
    "tok_insufficient_funds": Behaviour(
        error_code="declined", failure_code="insufficient_funds", message="insufficient funds"
    ),
    "tok_expired_card": Behaviour(
        error_code="invalid_card", failure_code="expired_card", message="expired"
    ),
    "tok_stolen_card": Behaviour(
        error_code="declined", failure_code="declined", message="stolen card", never_again=True
    ),
    "tok_timeout": Behaviour(Delivery.REPLY_LOST),
    "tok_timeout_not_charged": Behaviour(Delivery.ORDER_LOST),
    "tok_timeout_books_late": Behaviour(Delivery.REPLY_LOST_BOOKS_LATE),
    "tok_pending": Behaviour(Delivery.ANSWERED_LATER),
    "tok_connection_refused": Behaviour(Delivery.REFUSED_CONNECTION),
    "tok_slow": Behaviour(delay_seconds=1.0),
}
_FOLLOWING = {
    "timeout": Behaviour(Delivery.REPLY_LOST),
    "pending": Behaviour(Delivery.ANSWERED_LATER),
    "connection_refused": Behaviour(Delivery.REFUSED_CONNECTION),
}
# What a token makes of what follows a success, by the operation's name.
FOLLOWING_TOKENS: Mapping[Operation, Mapping[str, Behaviour]] = {
    operation: {
        f"tok_{operation.lower()}_{name}": behaviour for name, behaviour in _FOLLOWING.items()
    }
    | {
        f"tok_{operation.lower()}_timeout_not_{done}": Behaviour(Delivery.ORDER_LOST),
        f"tok_{operation.lower()}_declined": Behaviour(
            error_code="declined",
            failure_code="declined",
            message=f"{operation.lower()} refused",
        ),
    }
    for operation, done in (
        (Operation.CAPTURE, "captured"),
        (Operation.VOID, "voided"),
        (Operation.REFUND, "refunded"),
    )
}
# They approve what a step begins with.
_LATER = frozenset(token for tokens in FOLLOWING_TOKENS.values() for token in tokens)
_UNKNOWN_TOKEN = Behaviour(error_code="invalid_card", failure_code="other", message="unknown token")
_KEY_TTL = timedelta(hours=24)
_SETTLE_WINDOW = timedelta(seconds=1)
# Some books are written late, and still within the window after which their silence would be proof.
BOOKS_LATE = timedelta(seconds=0.5)


@dataclass(frozen=True, slots=True)
class SandboxProcessor:
    """One sandbox processor.

    Attributes:
        processor_id: id that configurations name.
        database: where its books are.
        down: true refuses every connection, whatever the token.
        holds: it can authorise without charging.
        tells: it can be asked what became of an order.
        replays: it knows a key again for a day.
    """

    processor_id: str
    database: Database
    down: bool = False
    holds: bool = True
    tells: bool = True
    replays: bool = True

    @property
    def capabilities(self) -> Capabilities:
        """Books are complete one second after an order arrived."""
        return Capabilities(
            _SETTLE_WINDOW,
            self.holds,
            lookup_by_ref=self.tells,
            replay_key=self.replays,
            key_ttl=_KEY_TTL,
        )

    async def ask(self, operation: Operation, order: Order) -> Verdict:
        """Carry an operation out."""
        return await self._carry_out(operation, order, self._of(operation, order.token))

    async def lookup(self, inquiry: Inquiry) -> Finding:
        """Tell what became of an order."""
        async with self.database.read() as work:
            asked = self._place(work) | {"merchant_ref": inquiry.merchant_ref}
            row = (await work.execute(_SQL["sandbox_by_ref"], asked)).first()
        return NotFound() if row is None or self._not_shown_yet(row, work.now) else _settled(row)

    def _not_shown_yet(self, row: Any, now: datetime) -> bool:
        behaviour = self._of(Operation.CHARGE, row.token)
        late = behaviour.delivery is Delivery.REPLY_LOST_BOOKS_LATE
        return late and now - row.created_at < BOOKS_LATE

    def _of(self, operation: Operation, token: str) -> Behaviour:
        """Find a token's behaviour; `token@processor` means it here and approval elsewhere."""
        if self.down:
            return Behaviour(Delivery.REFUSED_CONNECTION)
        name, _, only_at = token.partition("@")
        if only_at and only_at != self.processor_id:
            return APPROVE
        if not RULES[operation].takes:
            return FOLLOWING_TOKENS[operation].get(name, APPROVE)
        return APPROVE if name in _LATER else CHARGE_TOKENS.get(name, _UNKNOWN_TOKEN)

    async def _carry_out(self, operation: Operation, order: Order, behaviour: Behaviour) -> Verdict:
        match behaviour.delivery:
            case Delivery.REFUSED_CONNECTION:
                return NotSent("connection refused")
            case Delivery.ORDER_LOST:
                return Unknown("timeout")
        async with self.database.unit_of_work("orchestration.sandbox") as work:
            settled, repeated = await self._book(work, operation, order, behaviour)
        if not repeated:
            await asyncio.sleep(behaviour.delay_seconds)
        match behaviour.delivery:
            # The sandbox reports a lost reply at once, where a real one would let the clock run out. A repeat of the
            # same order gets its answer.
            case Delivery.REPLY_LOST | Delivery.REPLY_LOST_BOOKS_LATE if not repeated:
                return Unknown("timeout")
            case Delivery.ANSWERED_LATER if not repeated:
                return Pending(settled.provider_ref)
        return settled

    async def _book(
        self, work: UnitOfWork, operation: Operation, order: Order, behaviour: Behaviour
    ) -> tuple[Settled, bool]:
        """Write an order down once; the same key again finds the first outcome."""
        if not RULES[operation].takes and not await self._follows(work, operation, order):
            behaviour = Behaviour(
                error_code="declined",
                failure_code="declined",
                message=f"nothing left to {operation.lower()}",
            )
        elif operation is Operation.AUTHORIZE and not self.holds:
            behaviour = Behaviour(
                error_code="unknown", failure_code="other", message="charges only at once"
            )
        asked = self._values(work, operation, order, behaviour)
        created, booked = await work.execute_all(
            (_SQL["sandbox_insert"], asked), (_SQL["sandbox_by_key"], asked)
        )
        return _settled(booked.one()), created.first() is None

    async def _follows(self, work: UnitOfWork, operation: Operation, order: Order) -> bool:
        asked = self._place(work) | {"idempotency_key": order.parent_key}
        parent = (await work.execute(_SQL["sandbox_by_key_locked"], asked)).first()
        if parent is None or not parent.done:
            return False
        if Operation(parent.operation) not in RULES[operation].follows:
            return False
        asked = self._place(work) | {"parent_key": order.parent_key}
        followed = (await work.execute(_SQL["sandbox_followed"], asked)).one()
        fits = followed.amount_minor + order.amount_minor <= parent.amount_minor
        return bool(fits and not followed.closed)

    def _place(self, work: UnitOfWork) -> dict[str, Any]:
        return {"tenant_id": work.tenant_id, "processor_id": self.processor_id}

    def _values(
        self, work: UnitOfWork, operation: Operation, order: Order, behaviour: Behaviour
    ) -> dict[str, Any]:
        done = not behaviour.error_code
        return self._place(work) | {
            "idempotency_key": order.idempotency_key,
            "merchant_ref": order.merchant_ref,
            "operation": operation.value,
            "parent_key": order.parent_key,
            "amount_minor": order.amount_minor,
            "currency": order.currency,
            "token": order.token,
            "done": done,
            "error_code": behaviour.error_code,
            "failure_code": behaviour.failure_code,
            "retryable": behaviour.retryable,
            "provider_ref": derived_id("sbx", self.processor_id, order.idempotency_key),
            "message": behaviour.message,
            "created_at": work.now,
            "closes": order.closes,
        }


def _settled(row: Any) -> Settled:
    behaviour = CHARGE_TOKENS.get(row.token.partition("@")[0], APPROVE)
    return Settled(
        done=row.done,
        provider_ref=row.provider_ref,
        amount_minor=row.amount_minor,
        currency=row.currency,
        merchant_ref=row.merchant_ref,
        error_code=row.error_code,
        failure_code=row.failure_code,
        retryable=row.retryable,
        message=row.message,
        never_again=behaviour.never_again and not row.done,
    )


def sandbox(database: Database) -> dict[str, Processor]:
    """Build every sandbox processor, by id."""
    processors = [
        SandboxProcessor("sandbox-wallet", database),
        SandboxProcessor("sandbox-card", database),
        SandboxProcessor("sandbox-card-second", database),
        SandboxProcessor("sandbox-ach", database, holds=False),
        SandboxProcessor("sandbox-card-keyed", database, tells=False),
        SandboxProcessor("sandbox-card-mute", database, tells=False, replays=False),
        SandboxProcessor("sandbox-card-down", database, down=True),
    ]
    return {processor.processor_id: processor for processor in processors}
