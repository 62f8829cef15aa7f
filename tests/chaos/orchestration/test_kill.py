"""Kill -9 of the service while money moves both ways: charges, lost answers, and refunds of what came before.

The books of the sandbox processors are the oracle: they are written by transactions of their own.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import psycopg
import pytest
from payments.config.v1 import config_pb2
from payments.orchestration.v1 import orchestration_pb2 as pb
from payments.orchestration.v1 import orchestration_service_pb2 as service_pb
from payments.orchestration.v1.orchestration_service_pb2_grpc import (
    MerchantConfigServiceStub,
    PaymentServiceStub,
)

from services.runtime.access import MeshTokens, Principal
from tests.support.billing import books
from tests.support.mesh.process import service
from tests.support.mesh.serving import MESH_SECRET
from tests.support.postgres.server import DatabaseUrls

END_WITHIN_S = 40.0
FINAL = {pb.PAYMENT_STATUS_SUCCEEDED, pb.PAYMENT_STATUS_FAILED}
NET = (
    "SELECT coalesce(sum(CASE WHEN operation IN ('CHARGE', 'CAPTURE') THEN amount_minor"
    " WHEN operation = 'REFUND' THEN -amount_minor END), 0)::bigint"
    " FROM orchestration.sandbox_order WHERE tenant_id = %s AND done"
)
CHARGED = (
    "SELECT count(*) FROM orchestration.sandbox_order"
    " WHERE tenant_id = %s AND done AND operation = 'CHARGE'"
)
CAPTURED = CHARGED.replace("'CHARGE'", "'CAPTURE'")
WAITING = "SELECT count(*) FROM orchestration.booking WHERE tenant_id = %s AND due_at IS NOT NULL"
VERDICTS = "SELECT count(*) FROM mesh.audit WHERE tenant_id = %s AND entity = 'payment_attempt'"
ENDED = (
    "SELECT count(*) FROM mesh.event"
    " WHERE tenant_id = %s AND subject IN ('payment.received', 'payment.failed')"
)


class Shop:
    """A tenant's calls to the service."""

    def __init__(self, channel: grpc.aio.Channel, tenant: str) -> None:
        principal = Principal(tenant, "chaos", frozenset({"*"}))
        self._headers = [("authorization", f"Mesh {MeshTokens(MESH_SECRET).issue(principal)}")]
        self._payments: Any = PaymentServiceStub(channel)
        self._configs: Any = MerchantConfigServiceStub(channel)

    async def configure(
        self, split: config_pb2.Split.ValueType = config_pb2.SPLIT_CHARGE_IN_TURN
    ) -> None:
        """Wallet up to 10.00, then card with a first processor that is down, then bank debit."""
        config = config_pb2.MerchantConfig(merchant_id="acme")
        wallet = config.methods.add(method="wallet", processor_id="sandbox-wallet")
        wallet.max_amount.currency_code = "USD"
        wallet.max_amount.minor_units = 1000
        config.methods.add(
            method="card",
            processor_id="sandbox-card-down",
            fallback_processor_ids=["sandbox-card"],
        )
        config.methods.add(method="ach", processor_id="sandbox-ach")
        config.methods.add(method="keyed", processor_id="sandbox-card-keyed")
        config.methods.add(method="mute", processor_id="sandbox-card-mute")
        config.split = split
        config.timeouts.call_timeout.FromMilliseconds(1000)
        request = service_pb.PutMerchantConfigRequest(request_id=str(uuid.uuid4()), config=config)
        await self._configs.PutMerchantConfig(request, metadata=self._headers)

    async def pay(self, request: service_pb.CreatePaymentRequest) -> pb.Payment:
        """Create a payment."""
        answer = await self._payments.CreatePayment(request, metadata=self._headers, timeout=20)
        payment: pb.Payment = answer.payment
        return payment

    async def resolve(self, request: service_pb.ResolveAttemptRequest) -> pb.Payment:
        """Tell an outcome."""
        answer = await self._payments.ResolveAttempt(request, metadata=self._headers, timeout=20)
        payment: pb.Payment = answer.payment
        return payment

    async def list(self) -> list[pb.Payment]:
        """List the payments."""
        request = service_pb.ListPaymentsRequest()
        return list((await self._payments.ListPayments(request, metadata=self._headers)).payments)


@asynccontextmanager
async def shop_at(address: str, tenant: str) -> AsyncIterator[Shop]:
    """Call the service as a tenant."""
    async with grpc.aio.insecure_channel(address) as channel:
        yield Shop(channel, tenant)


def count(urls: DatabaseUrls, statement: str, tenant: str) -> int:
    """Ask the owner, who sees every tenant."""
    with psycopg.connect(urls.owner_admin) as connection:
        row = connection.execute(statement.encode(), (tenant,)).fetchone()
    assert row is not None
    return int(row[0])


def payment_request(**fields: Any) -> service_pb.CreatePaymentRequest:
    """Make a request of 30.00 over several methods."""
    body: Mapping[str, Any] = {
        "merchant_id": "acme",
        "order_id": "o-1",
        "person_id": "p-1",
        "currency": "USD",
        "amount": "30.00",
    } | fields
    return service_pb.CreatePaymentRequest(
        raw_request=json.dumps(body).encode(), request_id=str(uuid.uuid4())
    )


async def die(
    urls: DatabaseUrls,
    tenant: str,
    point: str,
    request: service_pb.CreatePaymentRequest,
    split: config_pb2.Split.ValueType = config_pb2.SPLIT_CHARGE_IN_TURN,
) -> None:
    """Let the service kill itself while it works on the payment."""
    with service(urls, "services.orchestration", crashpoint=point) as (address, process):
        async with shop_at(address, tenant) as shop:
            await shop.configure(split)
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await shop.pay(request)
        assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
        assert await asyncio.to_thread(process.wait, 20) == -signal.SIGKILL


def let_the_lease_run_out(urls: DatabaseUrls, tenant: str) -> None:
    """Make what the dead process held free, as it is some seconds later."""
    with psycopg.connect(urls.owner_admin) as connection:
        for table in ("payment", "booking"):
            connection.execute(
                f"UPDATE orchestration.{table} SET lease_until = clock_timestamp() WHERE tenant_id = %s".encode(),
                (tenant,),
            )


async def live_on(
    urls: DatabaseUrls, tenant: str, request: service_pb.CreatePaymentRequest
) -> pb.Payment:
    """Start again, let the client repeat itself, and wait for the end."""
    with service(urls, "services.orchestration") as (address, _):
        async with shop_at(address, tenant) as shop:
            await shop.pay(request)
            return await until_ended(shop)


async def until_ended(shop: Shop) -> pb.Payment:
    """Wait for the end of the only payment."""
    deadline = time.monotonic() + END_WITHIN_S
    while True:
        (payment,) = await shop.list()
        if payment.status in FINAL:
            return payment
        assert time.monotonic() < deadline, payment
        await asyncio.sleep(0.2)


# Charges: wallet, card (refused connection), card. `:n` is the n-th pass of the point.
@pytest.mark.parametrize(
    "point",
    [
        "orchestration.payment.create.after_commit",
        "orchestration.payment.before_send:1",
        "orchestration.payment.after_send:3",
        "orchestration.sandbox.after_commit:2",
        "orchestration.attempt.settle.before_commit:3",
    ],
)
async def test_a_split_payment_is_charged_once(database: DatabaseUrls, point: str) -> None:
    tenant = f"t-{uuid.uuid4().hex[:12]}"
    request = payment_request()
    await die(database, tenant, point, request)
    let_the_lease_run_out(database, tenant)
    payment = await live_on(database, tenant, request)
    assert payment.status == pb.PAYMENT_STATUS_SUCCEEDED, payment
    assert (count(database, NET, tenant), count(database, CHARGED, tenant)) == (3000, 2)
    assert count(database, ENDED, tenant) == 1


# Wallet and card are authorised (the first processor of the card is down) in attempts 1 to 3, and captured in 4 and 5.
@pytest.mark.parametrize(
    "point",
    [
        "orchestration.payment.before_send:4",
        "orchestration.sandbox.after_commit:3",
        "orchestration.payment.after_send:5",
        "orchestration.attempt.settle.before_commit:5",
    ],
)
async def test_what_was_authorised_is_captured_once(database: DatabaseUrls, point: str) -> None:
    tenant = f"t-{uuid.uuid4().hex[:12]}"
    request = payment_request()
    await die(database, tenant, point, request, config_pb2.SPLIT_AUTHORIZE_FIRST)
    let_the_lease_run_out(database, tenant)
    payment = await live_on(database, tenant, request)
    assert payment.status == pb.PAYMENT_STATUS_SUCCEEDED, payment
    assert (count(database, NET, tenant), count(database, CAPTURED, tenant)) == (3000, 2)
    assert count(database, CHARGED, tenant) == 0
    assert count(database, ENDED, tenant) == 1


# Charges of wallet and card, a declined bank debit, then two refunds: attempts 1, 2 and 3, 4, then 5 and 6.
@pytest.mark.parametrize(
    "point",
    [
        "orchestration.payment.before_send:5",
        "orchestration.payment.after_send:5",
        "orchestration.sandbox.before_commit:4",
        "orchestration.sandbox.after_commit:5",
        "orchestration.attempt.settle.before_commit:6",
    ],
)
async def test_what_was_charged_is_given_back_once(database: DatabaseUrls, point: str) -> None:
    tenant = f"t-{uuid.uuid4().hex[:12]}"
    methods = [
        {"method": "wallet"},
        {"method": "card", "max_amount": "15.00"},
        {"method": "ach", "token": "tok_decline"},
    ]
    request = payment_request(payment_methods=methods)
    await die(database, tenant, point, request)
    let_the_lease_run_out(database, tenant)
    payment = await live_on(database, tenant, request)
    assert payment.status == pb.PAYMENT_STATUS_FAILED, payment
    assert (count(database, NET, tenant), count(database, CHARGED, tenant)) == (0, 2)
    assert count(database, ENDED, tenant) == 1


@pytest.mark.parametrize(
    "point", ["orchestration.payment.before_verify", "orchestration.attempt.verify.after_commit"]
)
async def test_a_lost_answer_is_not_charged_again(database: DatabaseUrls, point: str) -> None:
    tenant = f"t-{uuid.uuid4().hex[:12]}"
    request = payment_request(method="card", token="tok_timeout_books_late")
    await die(database, tenant, point, request)
    payment = await live_on(database, tenant, request)
    assert payment.status == pb.PAYMENT_STATUS_SUCCEEDED, payment
    assert (count(database, NET, tenant), count(database, CHARGED, tenant)) == (3000, 1)
    assert count(database, ENDED, tenant) == 1


async def die_booking(
    urls: DatabaseUrls, tenant: str, point: str, request: service_pb.CreatePaymentRequest
) -> None:
    """Let the service kill itself while it books the payment, whether its answer was on its way by then or not."""
    with psycopg.connect(urls.owner_admin) as owner:
        # What others left to be booked would bring it to the point before the payment is there.
        owner.execute(
            "UPDATE orchestration.booking SET due_at = 'infinity' WHERE due_at IS NOT NULL"
        )
    with service(urls, "services.orchestration", crashpoint=point) as (address, process):
        async with shop_at(address, tenant) as shop:
            await shop.configure()
            with suppress(grpc.aio.AioRpcError):
                await shop.pay(request)
            assert await asyncio.to_thread(process.wait, 20) == -signal.SIGKILL


async def until_booked(urls: DatabaseUrls, tenant: str) -> None:
    """Wait until nothing waits to be booked, and hold that processors, payments and ledger agree."""
    deadline = time.monotonic() + END_WITHIN_S
    while count(urls, WAITING, tenant):
        assert time.monotonic() < deadline, "it is not booked"
        await asyncio.sleep(0.1)
    with psycopg.connect(urls.owner_admin) as owner:
        assert books.differences(books.read(owner, tenant)) == []


# The wallet is charged and given back, and so is the card: four times is something booked.
@pytest.mark.parametrize(
    "point",
    [
        "orchestration.attempt.settle.after_commit:1",
        "orchestration.booking.claim.after_commit:3",
        "orchestration.booking.after_post:1",
        "orchestration.booking.settle.before_commit:2",
        "orchestration.booking.settle.after_commit:4",
    ],
)
async def test_what_a_processor_did_is_booked_once(
    database: DatabaseUrls, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = f"t-{uuid.uuid4().hex[:12]}"
    methods = [
        {"method": "wallet"},
        {"method": "card", "max_amount": "15.00"},
        {"method": "ach", "token": "tok_decline"},
    ]
    request = payment_request(payment_methods=methods)
    with service(database, "services.ledger") as (ledger, _):
        monkeypatch.setenv("TOLLMESH_PEERS", f"ledger={ledger}")
        await die_booking(database, tenant, point, request)
        let_the_lease_run_out(database, tenant)
        with service(database, "services.orchestration") as (address, _):
            async with shop_at(address, tenant) as shop:
                await shop.pay(request)
                await until_ended(shop)
                await until_booked(database, tenant)
    assert (count(database, NET, tenant), count(database, CHARGED, tenant)) == (0, 2)


@pytest.mark.parametrize(
    "point",
    ["orchestration.booking.put_off.before_commit", "orchestration.booking.put_off.after_commit"],
)
async def test_what_could_not_be_booked_is_booked_when_the_ledger_is_there(
    database: DatabaseUrls, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = f"t-{uuid.uuid4().hex[:12]}"
    request = payment_request()
    await die_booking(database, tenant, point, request)
    let_the_lease_run_out(database, tenant)
    with service(database, "services.ledger") as (ledger, _):
        monkeypatch.setenv("TOLLMESH_PEERS", f"ledger={ledger}")
        with service(database, "services.orchestration") as (address, _):
            async with shop_at(address, tenant) as shop:
                await shop.pay(request)
                await until_ended(shop)
                await until_booked(database, tenant)
    assert (count(database, NET, tenant), count(database, CHARGED, tenant)) == (3000, 2)


# Its answer is lost, and the processor cannot be asked: the same order is sent again under its key.
@pytest.mark.parametrize(
    "point",
    [
        "orchestration.attempt.replay.before_commit",
        "orchestration.attempt.replay.after_commit",
        "orchestration.attempt.replay.before_send",
        "orchestration.attempt.replay.after_send",
    ],
)
async def test_an_order_that_is_sent_again_is_charged_once(
    database: DatabaseUrls, point: str
) -> None:
    tenant = f"t-{uuid.uuid4().hex[:12]}"
    request = payment_request(method="keyed", token="tok_timeout")
    await die(database, tenant, point, request)
    let_the_lease_run_out(database, tenant)
    payment = await live_on(database, tenant, request)
    assert payment.status == pb.PAYMENT_STATUS_SUCCEEDED, payment
    assert (count(database, NET, tenant), count(database, CHARGED, tenant)) == (3000, 1)


@pytest.mark.parametrize(
    "point", ["orchestration.resolve.before_commit", "orchestration.resolve.after_commit"]
)
async def test_a_verdict_is_taken_once(database: DatabaseUrls, point: str) -> None:
    tenant = f"t-{uuid.uuid4().hex[:12]}"
    with service(database, "services.orchestration", crashpoint=point) as (address, process):
        async with shop_at(address, tenant) as shop:
            await shop.configure()
            await shop.pay(payment_request(method="mute", token="tok_timeout"))
            verdict = service_pb.ResolveAttemptRequest(
                request_id=str(uuid.uuid4()),
                attempt_id=await until_manual(shop),
                verdict=pb.VERDICT_SUCCEEDED,
                evidence="their books",
            )
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await shop.resolve(verdict)
        assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
        assert await asyncio.to_thread(process.wait, 20) == -signal.SIGKILL
    let_the_lease_run_out(database, tenant)
    with service(database, "services.orchestration") as (address, _):
        async with shop_at(address, tenant) as shop:
            await shop.resolve(verdict)
            payment = await until_ended(shop)
    assert payment.status == pb.PAYMENT_STATUS_SUCCEEDED, payment
    assert (count(database, NET, tenant), count(database, ENDED, tenant)) == (3000, 1)
    assert count(database, VERDICTS, tenant) == 1


async def until_manual(shop: Shop) -> str:
    """Wait until the only attempt is for an operator; returns its id."""
    deadline = time.monotonic() + END_WITHIN_S
    while True:
        ((attempt,),) = (payment.attempts for payment in await shop.list())
        if attempt.status == pb.ATTEMPT_STATUS_MANUAL:
            return str(attempt.attempt_id)
        assert time.monotonic() < deadline, attempt
        await asyncio.sleep(0.2)
