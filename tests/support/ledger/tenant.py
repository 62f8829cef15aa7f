"""One tenant's ledger on a running mesh, in few words; what the ledger tells is heard beside it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

import grpc
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from payments.ledger.v1 import ledger_pb2 as pb
from payments.ledger.v1 import ledger_service_pb2 as service_pb
from payments.ledger.v1 import monitor_pb2, schedule_pb2, scheduled_pb2
from payments.ledger.v1.ledger_service_pb2_grpc import LedgerServiceStub
from payments.type.v1.type_pb2 import Money

from services.runtime.events.envelope import Envelope, Reaction
from services.runtime.service import Runtime, Service
from tests.support.mesh.serving import Mesh

if TYPE_CHECKING:
    from payments.ledger.v1.ledger_service_pb2_grpc import LedgerServiceAsyncStub

SETTLES_WITHIN_S = 30.0
MessageT = TypeVar("MessageT", bound=Message)


@dataclass
class Ear:
    """Hears what the ledger tells, of all tenants; `build` is the service that does so."""

    heard: list[Envelope] = field(default_factory=list)

    def build(self, _runtime: Runtime) -> Service:
        """Build the service."""

        async def hear(_work: object, envelope: Envelope) -> None:
            self.heard.append(envelope)

        return Service([], [Reaction("test.ledger", ("ledger.*",), hear)])


@dataclass
class Tenant:
    """A tenant's ledger."""

    mesh: Mesh
    ear: Ear
    name: str = field(default_factory=lambda: f"t-{uuid4().hex[:12]}")
    stub: LedgerServiceAsyncStub = field(init=False)

    def __post_init__(self) -> None:
        self.stub = LedgerServiceStub(self.mesh.channel(self.name))

    async def open(self, *names: str, account_type: str = "ASSET", **more: Any) -> None:
        """Create accounts, all alike."""
        accounts = [
            pb.Account(
                account_id=name,
                type=pb.AccountType.Value(f"ACCOUNT_TYPE_{account_type}"),
                **{"currency_code": "USD", **more},
            )
            for name in names
        ]
        request = service_pb.CreateAccountsRequest(accounts=accounts)
        for answer in (await self.stub.CreateAccounts(request)).results:
            assert answer.result == service_pb.ACCOUNT_RESULT_OK, answer

    async def post(self, *transfers: pb.Transfer) -> list[str]:
        """Post and name the results; of an id that failed before, the original one behind it."""
        request = service_pb.PostTransfersRequest(transfers=transfers)
        return [_named(each) for each in (await self.stub.PostTransfers(request)).results]

    async def get(self, transfer: pb.Transfer) -> pb.RecordedTransfer:
        """Read a transfer."""
        request = service_pb.GetTransferRequest(transfer_id=transfer.transfer_id)
        return (await self.stub.GetTransfer(request)).transfer

    async def state(self, transfer: pb.Transfer) -> str:
        """Name how a scheduled transfer stands."""
        found = await self.get(transfer)
        return schedule_pb2.ScheduleState.Name(found.schedule.state).removeprefix("SCHEDULE_STATE_")

    async def sums(self, account_id: str) -> tuple[int, int]:
        """Debits and credits posted."""
        request = service_pb.GetAccountRequest(account_id=account_id)
        found = (await self.stub.GetAccount(request)).account.balances
        return found.debits_posted, found.credits_posted

    async def cancel(
        self, transfer: pb.Transfer, request_id: str = ""
    ) -> scheduled_pb2.CancelScheduledTransferResponse:
        """Take a scheduled transfer back."""
        request = scheduled_pb2.CancelScheduledTransferRequest(
            request_id=request_id or str(uuid4()),
            transfer_id=transfer.transfer_id,
            reason="changed my mind",
        )
        return await self.stub.CancelScheduledTransfer(request)

    async def watch(self, monitor_id: str, **fields: Any) -> monitor_pb2.BalanceMonitor:
        """Put a monitor."""
        monitor = monitor_pb2.BalanceMonitor(monitor_id=monitor_id, **fields)
        request = monitor_pb2.PutBalanceMonitorRequest(request_id=str(uuid4()), monitor=monitor)
        return (await self.stub.PutBalanceMonitor(request)).monitor

    async def told(self, kind: type[MessageT]) -> list[MessageT]:
        """Return what the ledger has told of one kind, in the order of the feed."""
        await self.mesh.drain_events()
        mine = [each.payload for each in self.ear.heard if each.tenant_id == self.name]
        return [each for each in mine if isinstance(each, kind)]


def usd(amount: int) -> Money:
    """Write an amount."""
    return Money(currency_code="USD", minor_units=amount)


def move(debit: str, credit: str, amount: int | None, **more: Any) -> pb.Transfer:
    """Write a transfer; `not_before` may be a datetime."""
    due = more.pop("not_before", None)
    return pb.Transfer(
        transfer_id=more.pop("transfer_id", "") or str(uuid4()),
        debit_account_id=debit,
        credit_account_id=credit,
        amount=None if amount is None else usd(amount),
        kind=more.pop("kind", pb.KIND_POSTED),
        not_before=stamp(due) if isinstance(due, datetime) else due,
        **more,
    )


def stamp(moment: datetime) -> Timestamp:
    """Write a moment."""
    written = Timestamp()
    written.FromDatetime(moment)
    return written


async def settled(look: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something has come to be so."""
    give_up_at = time.monotonic() + SETTLES_WITHIN_S
    while not await look():
        assert time.monotonic() < give_up_at, "it did not come to be so"
        await asyncio.sleep(0.05)


async def refusal(call: Awaitable[Any]) -> tuple[str, dict[str, str]]:
    """Reason and metadata of what a call is refused with."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        status = rpc_status.from_call(error)  # type: ignore[arg-type] # typed for the other API
        assert status is not None
        info = error_details_pb2.ErrorInfo()
        status.details[0].Unpack(info)
        return info.reason, dict(info.metadata)
    raise AssertionError("it was not refused")


def _named(answer: service_pb.PostTransferResult) -> str:
    name = service_pb.TransferResult.Name(answer.result).removeprefix("TRANSFER_RESULT_")
    if name != "ID_ALREADY_FAILED":
        return name
    original = service_pb.TransferResult.Name(answer.original_result)
    return f"{name}: {original.removeprefix('TRANSFER_RESULT_')}"
