"""Captures, voids and refunds: an instruction is stored, and the payment worked on as when it was made."""

from __future__ import annotations

from collections.abc import Mapping

from services.orchestration.app.engine import LEASE_MARGIN_MS
from services.orchestration.app.payments import Payments
from services.orchestration.domain.instructions import (
    Instruct,
    amount_of,
    check_possible,
    is_under_way,
    under_way,
)
from services.orchestration.domain.issues import MESSAGE_MAX, sanitized
from services.orchestration.domain.payment import Instruction
from services.orchestration.domain.processors import Capabilities
from services.orchestration.domain.record import Payment
from services.orchestration.ports import Processors, Runs
from services.orchestration.store import payments as store
from services.runtime.commands import Commands
from services.runtime.context import current
from services.runtime.database import UnitOfWork
from services.runtime.errors import NotFound
from services.runtime.ids import new_id
from services.runtime.work import Claim


class Instructions:
    """Gives instructions to payments that rest."""

    def __init__(
        self, payments: Payments, commands: Commands, runs: Runs, processors: Processors
    ) -> None:
        self._payments = payments
        self._processors = processors
        self._commands = commands
        self._runs = runs

    async def give(
        self, command: Instruct, request_id: str, fingerprint: bytes
    ) -> tuple[Payment, Instruction]:
        """Store an instruction and work on it for as long as the caller waits.

        Raises:
            NotFound: there is no such payment.
            PaymentUnderWay: it does not rest, or another instruction is being carried out.
            PaymentNotAuthorized, NothingToRefund, AmountExceedsLeft, InvalidField: see `amount_of`.
            CaptureNotPartial, RefundsUsedUp: a processor that would have to do it cannot.
            RequestIdReused: the request_id came before with another body.
        """

        # Before the transaction, which would else wait for a second connection.
        asked = await self._payments.get(command.payment_id)
        of_merchant = await self._processors.of(asked.merchant_id, asked.config_version)
        capabilities = {each: found.capabilities for each, found in of_merchant.items()}

        async def take(command: Instruct, work: UnitOfWork) -> str:
            return await self._take(command, request_id, fingerprint, capabilities, work)

        instruction_id = await self._commands.apply("orchestration.instruct", take, command)
        payment = await self._payments.reached(command.payment_id)
        (found,) = (
            each for each in payment.work.instructions if each.instruction_id == instruction_id
        )
        return payment, found

    async def _take(
        self,
        command: Instruct,
        request_id: str,
        fingerprint: bytes,
        capabilities: Mapping[str, Capabilities],
        work: UnitOfWork,
    ) -> str:
        """Store an instruction, or find the one that its request made before; returns its id."""
        new = new_id("ins")
        # Name of its records: never change it.
        name = f"orchestration.{command.operation.value.lower()}"
        instruction_id = await self._commands.claim_for(work, name, request_id, fingerprint, new)
        if instruction_id != new:
            return instruction_id
        payment_id = command.payment_id
        leasing = store.Leasing(current(), self._runs.owner, LEASE_MARGIN_MS)
        # Before it is read: nobody works on it from here on.
        epoch = await store.reopen(work, payment_id, leasing)
        found = await store.load(work, [payment_id])
        if not found:
            raise NotFound("payment", payment_id)
        (payment,) = found
        if epoch is None and is_under_way(payment):
            raise under_way(payment)
        amount_minor = amount_of(command, payment)
        check_possible(command, payment, amount_minor, capabilities)
        assert epoch is not None, "what may be given an instruction rests"
        call = current()
        instruction = Instruction(
            instruction_id,
            command.operation,
            amount_minor,
            work.now,
            call.principal_id,
            command.keep_open,
            sanitized(command.reason, MESSAGE_MAX),
        )
        store.insert_instruction(work, payment_id, len(payment.work.instructions), instruction)
        lease = Claim(
            call.tenant_id,
            payment_id,
            epoch,
            call.correlation_id,
            call.causation_id,
            traceparent=call.traceparent,
        )
        work.after_commit(lambda: self._payments.begin(lease))
        return instruction_id
