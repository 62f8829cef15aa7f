"""A merchant paid through a gateway of its own: cut connections, odd answers, and what the gateway tells by itself."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import random
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from payments.config.v1 import config_pb2
from payments.orchestration.v1 import orchestration_pb2 as pb
from payments.orchestration.v1 import orchestration_service_pb2 as service_pb
from payments.type.v1 import type_pb2
from standardwebhooks.webhooks import Webhook

from services.runtime.postgres.roles import DatabaseUrls
from tests.support.peers.cutter import Cutter, Fault, at_random, cutting
from tests.support.peers.faulted import compare, rested
from tests.support.peers.house import KEY, SETTINGS, House, house

from ..conftest import Bench, reason, serving, status, step_statuses

SECRET = "whsec_" + base64.b64encode(b"of the house, 24 bytes..").decode()
PAYMENTS = 20


@dataclass
class Place:
    """A tenant whose merchant is paid through a gateway of its own."""

    bench: Bench
    house: House
    cutter: Cutter
    base_url: str
    folder: Path

    async def open(self, merchant: str = "acme", **changed: str) -> int:
        """Let a merchant of the tenant reach the gateway, in the form that it speaks."""
        place = self.folder / self.bench.tenant_id
        place.mkdir(exist_ok=True)
        kept = {"secret": KEY, "base_urls": [self.base_url], "webhook_secrets": [SECRET]}
        (place / "house.json").write_text(json.dumps(kept))
        account = config_pb2.ProcessorConfig(
            processor_id="house",
            adapter="http-json",
            base_url=self.base_url,
            credential_ref="house",
            settings={
                **SETTINGS,
                **{key.replace("__", "."): value for key, value in changed.items()},
            },
        )
        return await self.bench.configure(
            *({"method": each, "processor_id": "house"} for each in ("card", "second_card")),
            merchant=merchant,
            processors=[account],
            timeouts={"call_timeout": {"seconds": 2}},
        )


@pytest.fixture(scope="module")
async def served_house(
    database_url: DatabaseUrls, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Place]:
    """A service, and a gateway behind a cutter."""
    folder = tmp_path_factory.mktemp("credentials")
    settings: dict[str, Any] = {"processor_allow": "127.0.0.1", "processor_credentials_dir": folder}
    async with (
        house() as running_house,
        cutting(running_house.port, stall_seconds=2.2) as (cutter, port),
        serving(database_url, [], **settings) as (mesh, runs, booker, clock, apply),
    ):
        bench = Bench(mesh, runs, booker, clock, database_url, "nobody", apply)
        yield Place(bench, running_house, cutter, f"http://127.0.0.1:{port}", folder)


@pytest.fixture
def place(served_house: Place) -> Place:
    """A fresh tenant."""
    of = served_house.bench
    tenant_id = f"t-{uuid.uuid4().hex[:12]}"
    bench = Bench(of.mesh, of.runs, of.booker, of.clock, of.urls, tenant_id, of.apply)
    served_house.cutter.fault = lambda request: Fault.NONE
    return Place(
        bench, served_house.house, served_house.cutter, served_house.base_url, served_house.folder
    )


def requests(seed: int) -> list[dict[str, Any]]:
    """Return the fields of payments of two steps, some by a card without funds."""
    chance = random.Random(seed)  # repeatable
    made = []
    for number in range(PAYMENTS):
        total = chance.randint(200, 99_999)
        cards = chance.choices(["good", "poor"], [0.85, 0.15], k=2)
        parts = [f"{part // 100}.{part % 100:02}" for part in (total // 3, total - total // 3)]
        methods = [
            {"method": method, "token": card, "max_amount": part}
            for method, card, part in zip(("card", "second_card"), cards, parts, strict=True)
        ]
        amount = f"{total // 100}.{total % 100:02}"
        made.append({"order_id": f"o-{number}", "amount": amount, "payment_methods": methods})
    return made


async def test_no_charge_is_made_twice_or_lost_through_cut_connections(place: Place) -> None:
    await place.open()
    before = place.house.net_minor()
    place.cutter.fault = at_random(seed=3, share=0.3)
    slots = asyncio.Semaphore(6)

    async def pay(fields: dict[str, Any]) -> str:
        async with slots:
            return str((await place.bench.pay(**fields)).payment_id)

    ids = await asyncio.gather(*(pay(each) for each in requests(seed=4)))
    assert place.cutter.done.total() > place.cutter.done[Fault.NONE]
    place.cutter.fault = lambda request: Fault.NONE
    payments = await rested(ids, place.bench.get, place.bench.later)
    net = place.house.net_minor()
    net.subtract(before)
    compare(payments, net)
    assert "SUCCEEDED" in {status(each) for each in payments}


async def test_authorised_captured_in_part_and_given_back(place: Place) -> None:
    await place.open()
    payment = await place.bench.pay(
        amount="20.00", capture="manual", payment_methods=[{"method": "card", "token": "good"}]
    )
    assert status(payment) == "AUTHORIZED"
    some = type_pb2.Money(currency_code="USD", minor_units=1500)
    capture = service_pb.CapturePaymentRequest(
        request_id=str(uuid.uuid4()), payment_id=payment.payment_id, amount=some
    )
    await place.bench.payments.CapturePayment(capture)
    refund = service_pb.RefundPaymentRequest(
        request_id=str(uuid.uuid4()),
        payment_id=payment.payment_id,
        amount=type_pb2.Money(currency_code="USD", minor_units=400),
    )
    payment = (await place.bench.payments.RefundPayment(refund)).payment
    assert (payment.amounts.captured.minor_units, payment.amounts.refunded.minor_units) == (
        1500,
        400,
    )
    net = place.house.net_minor()
    assert sum(net[each.attempt_id] for each in payment.attempts) == 1100


async def in_doubt(place: Place) -> pb.Payment:
    """A payment that was charged, and of which no answer has come."""
    place.cutter.fault = lambda request: Fault.REPLY_LOST
    payment = await place.bench.pay(
        amount="12.34", payment_methods=[{"method": "card", "token": "good"}]
    )
    place.cutter.fault = lambda request: Fault.NONE
    assert (status(payment), step_statuses(payment)) == ("RESOLVING", ["UNKNOWN"])
    return payment


async def told(place: Place, body: bytes, headers: dict[str, str]) -> Any:
    request = service_pb.ReceiveWebhookRequest(
        processor_id="house", raw_request=body, headers=headers
    )
    return (await place.bench.payments.ReceiveWebhook(request)).outcome


async def forged(place: Place, body: bytes, headers: dict[str, str]) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await told(place, body, headers)
    return reason(refused.value)


async def test_a_word_signed_by_standard_webhooks_ends_the_doubt(place: Place) -> None:
    await place.open()
    payment = await in_doubt(place)
    body = json.dumps({"about": {"ours": payment.attempts[0].attempt_id}})
    now = place.bench.clock.now()
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": "v2,x v1 " + Webhook(SECRET).sign("msg_1", now, body),
    }
    for changed in (
        {"webhook-id": "msg_2"},
        {"webhook-timestamp": str(int(now.timestamp()) + 1)},
        {"webhook-timestamp": "soon"},
        {"webhook-signature": "v1,é"},
        {"webhook-signature": ""},
    ):
        assert await forged(place, body.encode(), headers | changed) == "SIGNATURE_INVALID"
    assert await forged(place, b"\xff", headers) == "SIGNATURE_INVALID"
    assert await told(place, body.encode(), headers) == pb.WEBHOOK_OUTCOME_APPLIED
    assert await told(place, body.encode(), headers) == pb.WEBHOOK_OUTCOME_REPEATED
    assert status(await place.bench.get(payment.payment_id)) == "SUCCEEDED"


@pytest.mark.parametrize("encoding", ["hex", "base64"])
async def test_a_word_signed_by_hmac_ends_the_doubt(place: Place, encoding: str) -> None:
    await place.open(
        webhook__scheme="hmac",
        webhook__header="X-House",
        webhook__prefix="sha256=",
        webhook__encoding=encoding,
    )
    payment = await in_doubt(place)
    ref = payment.attempts[0].attempt_id
    body = json.dumps({"event": "7", "about": {"ours": ref}}).encode()
    digest = hmac.digest(SECRET.encode(), body, hashlib.sha256)
    text = digest.hex() if encoding == "hex" else base64.b64encode(digest).decode()
    assert await forged(place, body + b" ", {"x-house": f"sha256={text}"}) == "SIGNATURE_INVALID"
    assert await forged(place, body, {"x-house": text}) == "SIGNATURE_INVALID"
    assert await forged(place, body, {"x-house": "sha256=é"}) == "SIGNATURE_INVALID"
    assert await forged(place, body, {}) == "SIGNATURE_INVALID"
    headers = {"x-house": f"sha256={text}"}
    assert await told(place, body, headers) == pb.WEBHOOK_OUTCOME_APPLIED
    assert await told(place, body, headers) == pb.WEBHOOK_OUTCOME_REPEATED
    assert status(await place.bench.get(payment.payment_id)) == "SUCCEEDED"


async def test_a_word_is_read_in_the_form_that_its_merchant_names_now(place: Place) -> None:
    """Another merchant may name another form for the same credential; neither stands in the other's way."""
    await place.open()
    payment = await in_doubt(place)
    hmac_form = {"webhook__scheme": "hmac", "webhook__prefix": ""}
    place.bench.clock.advance(timedelta(seconds=1))
    await place.open(webhook__header="X-House", **hmac_form)
    place.bench.clock.advance(timedelta(seconds=1))
    await place.open("boutique", webhook__header="X-Boutique", **hmac_form)
    body = json.dumps({"event": "7", "about": {"ours": payment.attempts[0].attempt_id}}).encode()
    digest = hmac.digest(SECRET.encode(), body, hashlib.sha256).hex()
    now = place.bench.clock.now()
    older = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(SECRET).sign("msg_1", now, body.decode()),
    }
    assert await forged(place, body, older) == "SIGNATURE_INVALID"
    assert await told(place, body, {"x-house": digest}) == pb.WEBHOOK_OUTCOME_APPLIED
    assert status(await place.bench.get(payment.payment_id)) == "SUCCEEDED"


async def test_a_form_that_could_not_be_spoken_is_refused(place: Place) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await place.open(answer__status="state")
    assert reason(refused.value) == "INVALID_FIELD"
    assert "settings[answer.status]" in (refused.value.details() or "")


def usd(minor_units: int) -> type_pb2.Money:
    return type_pb2.Money(currency_code="USD", minor_units=minor_units)


async def refused_capture(place: Place, payment: pb.Payment, amount: int, **more: Any) -> str:
    request = service_pb.CapturePaymentRequest(
        request_id=str(uuid.uuid4()), payment_id=payment.payment_id, amount=usd(amount), **more
    )
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await place.bench.payments.CapturePayment(request)
    return reason(refused.value)


async def test_what_a_gateway_cannot_do_is_refused_before_it_is_asked(place: Place) -> None:
    await place.open(partial_capture="false", refunds_max="1")
    held: dict[str, Any] = {
        "amount": "20.00",
        "capture": "manual",
        "payment_methods": [{"method": "card", "token": "good"}],
    }
    payment = await place.bench.pay(**held)
    calls = place.cutter.done.total()
    assert await refused_capture(place, payment, 1500) == "CAPTURE_NOT_PARTIAL"
    assert place.cutter.done.total() == calls
    whole = service_pb.CapturePaymentRequest(
        request_id=str(uuid.uuid4()), payment_id=payment.payment_id, amount=usd(2000)
    )
    await place.bench.payments.CapturePayment(whole)
    refund = service_pb.RefundPaymentRequest(
        request_id=str(uuid.uuid4()), payment_id=payment.payment_id, amount=usd(500)
    )
    given = await place.bench.payments.RefundPayment(refund)
    assert given.instruction.status == pb.INSTRUCTION_STATUS_SUCCEEDED
    calls = place.cutter.done.total()
    more = service_pb.RefundPaymentRequest(
        request_id=str(uuid.uuid4()), payment_id=payment.payment_id, amount=usd(500)
    )
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await place.bench.payments.RefundPayment(more)
    assert reason(refused.value) == "REFUNDS_USED_UP"
    assert place.cutter.done.total() == calls
    assert (await place.bench.payments.RefundPayment(refund)).instruction == given.instruction


async def test_a_hold_that_a_capture_closes_is_not_kept_open(place: Place) -> None:
    await place.open(captures_many="false")
    payment = await place.bench.pay(
        amount="20.00", capture="manual", payment_methods=[{"method": "card", "token": "good"}]
    )
    assert await refused_capture(place, payment, 1500, keep_open=True) == "CAPTURE_NOT_PARTIAL"
    closing = service_pb.CapturePaymentRequest(
        request_id=str(uuid.uuid4()), payment_id=payment.payment_id, amount=usd(1500)
    )
    answer = await place.bench.payments.CapturePayment(closing)
    assert answer.instruction.status == pb.INSTRUCTION_STATUS_SUCCEEDED
