"""What a processor tells by itself: late, twice, out of order, forged, about others; its own books are the oracle."""

from __future__ import annotations

import json
import uuid
from datetime import timedelta
from typing import Any

import grpc
import pytest
import stripe
from payments.orchestration.v1 import orchestration_pb2 as pb
from payments.orchestration.v1 import orchestration_service_pb2 as service_pb

from services.orchestration.adapters.registry import Access
from services.orchestration.adapters.stripe.adapter import StripeAdapter
from services.orchestration.app import webhooks
from services.orchestration.ports import Finding, Inquiry, NotFound, Pending
from services.orchestration.store import webhooks as store
from tests.support.peers.cutter import Fault
from tests.support.peers.faulted import keep_credential, processor

from ..conftest import Bench, reason, status, step_statuses
from .conftest import Shop

SECRET = "whsec_of_the_peer"
VISA: dict[str, Any] = {"payment_methods": [{"method": "card", "token": "pm_card_visa"}]}
APPLIED = pb.WEBHOOK_OUTCOME_APPLIED
REPEATED = pb.WEBHOOK_OUTCOME_REPEATED
IGNORED = pb.WEBHOOK_OUTCOME_IGNORED


async def open_shop(shop: Shop) -> None:
    """Configure a merchant whose processor signs what it tells."""
    await shop.configure()
    keep_credential(
        shop.folder, shop.bench.tenant_id, shop.base_url, webhook_secrets=["whsec_older", SECRET]
    )


def event(kind: str, merchant_ref: str, event_id: str = "") -> bytes:
    return json.dumps(
        {
            "id": event_id or f"evt_{uuid.uuid4().hex}",
            "type": kind,
            "data": {"object": {"metadata": {"merchant_ref": merchant_ref}}},
        }
    ).encode()


def signed(
    bench: Bench, body: bytes, *, secret: str = SECRET, age_seconds: float = 0, **more: Any
) -> service_pb.ReceiveWebhookRequest:
    at = bench.clock.now() - timedelta(seconds=age_seconds)
    signature = stripe.WebhookSignature.generate_signature_header(
        body.decode(), secret, int(at.timestamp())
    )
    fields = {
        "processor_id": "stripe",
        "raw_request": body,
        "headers": {"stripe-signature": signature},
    }
    return service_pb.ReceiveWebhookRequest(**{**fields, **more})


async def tell(bench: Bench, kind: str, merchant_ref: str) -> service_pb.ReceiveWebhookResponse:
    return await bench.payments.ReceiveWebhook(signed(bench, event(kind, merchant_ref)))


async def refusal(bench: Bench, request: service_pb.ReceiveWebhookRequest) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await bench.payments.ReceiveWebhook(request)
    return reason(refused.value)


async def in_doubt(shop: Shop) -> pb.Payment:
    """A payment that was charged, and of which no answer has come."""

    def lose(request: bytes) -> Fault:
        lost = b"/confirm " in request or request.startswith(b"GET ")
        return Fault.REPLY_LOST if lost else Fault.NONE

    shop.cutter.fault = lose
    payment = await shop.bench.pay(amount="12.34", **VISA)
    shop.cutter.fault = lambda request: Fault.NONE
    assert (status(payment), step_statuses(payment)) == ("RESOLVING", ["UNKNOWN"])
    return payment


def net_minor(shop: Shop, payment: pb.Payment) -> int:
    net = shop.peer.net_minor()
    return sum(net[attempt.attempt_id] for attempt in payment.attempts)


async def test_a_word_ends_the_doubt_at_once_and_only_once(shop: Shop) -> None:
    await open_shop(shop)
    payment = await in_doubt(shop)
    request = signed(
        shop.bench, event("payment_intent.succeeded", payment.attempts[0].attempt_id, "evt_1")
    )
    answer = await shop.bench.payments.ReceiveWebhook(request)
    assert (answer.event_id, answer.outcome, answer.payment_id) == (
        "evt_1",
        APPLIED,
        payment.payment_id,
    )
    payment = await shop.bench.get(payment.payment_id)
    assert status(payment) == "SUCCEEDED"
    assert payment.attempts[0].provider_ref.startswith("pi_")
    calls = sum(shop.cutter.done.values())
    for _ in range(2):
        answer = await shop.bench.payments.ReceiveWebhook(request)
        assert answer.outcome == REPEATED
    assert sum(shop.cutter.done.values()) == calls, "what came before is not asked about again"
    assert await shop.bench.get(payment.payment_id) == payment
    assert net_minor(shop, payment) == 1234


async def test_an_older_word_never_overwrites_what_is_known(shop: Shop) -> None:
    await open_shop(shop)
    payment = await shop.bench.pay(amount="12.34", **VISA)
    assert status(payment) == "SUCCEEDED"
    (attempt,) = payment.attempts
    for kind in ("payment_intent.payment_failed", "payment_intent.canceled", "refund.failed"):
        assert (await tell(shop.bench, kind, attempt.attempt_id)).outcome == IGNORED
    assert await shop.bench.get(payment.payment_id) == payment
    assert net_minor(shop, payment) == 1234


async def test_a_word_that_comes_days_late_gives_back_what_counted_as_not_charged(
    shop: Shop,
) -> None:
    await open_shop(shop)
    payment = await in_doubt(shop)
    (attempt,) = payment.attempts
    # As if its books had not shown it when they were asked.
    shop.bench.execute(
        "UPDATE orchestration.attempt SET status = 'NOT_CHARGED', error_code = 'timeout', failure_code = 'timeout',"
        " verify_after = NULL, settled_at = sent_at WHERE tenant_id = %(tenant)s"
    )
    shop.bench.execute(
        "UPDATE orchestration.payment SET status = 'FAILED', due_at = NULL, lease_owner = NULL, lease_until = NULL"
        " WHERE tenant_id = %(tenant)s"
    )
    shop.bench.clock.advance(timedelta(days=3))
    answer = await tell(shop.bench, "payment_intent.succeeded", attempt.attempt_id)
    assert answer.outcome == APPLIED
    await shop.bench.runs.wait(shop.bench.tenant_id, payment.payment_id, 10)
    payment = await shop.bench.get(payment.payment_id)
    assert step_statuses(payment) == ["REVERSED", "SUCCEEDED"]
    assert status(payment) == "FAILED"
    assert net_minor(shop, payment) == 0
    again = await tell(shop.bench, "payment_intent.succeeded", attempt.attempt_id)
    assert again.outcome == IGNORED
    assert net_minor(shop, payment) == 0


async def test_what_is_not_signed_changes_nothing(shop: Shop) -> None:
    await open_shop(shop)
    payment = await in_doubt(shop)
    bench, body = shop.bench, event("payment_intent.succeeded", payment.attempts[0].attempt_id)
    right = signed(bench, body).headers["stripe-signature"]
    time, _, digest = right.partition(",v1=")
    later, older = timedelta(minutes=6).total_seconds(), timedelta(days=2).total_seconds()
    forged = [
        signed(bench, body, secret="whsec_of_somebody"),
        signed(bench, body, age_seconds=later),
        signed(bench, body, age_seconds=older),
        signed(bench, body, age_seconds=-later),
        signed(bench, body, raw_request=body.replace(b"succeeded", b"processed")),
        signed(bench, body, raw_request=b"\xff" + body),
        *(
            signed(bench, body, headers={"stripe-signature": header})
            for header in (
                "",
                "v1=" + digest,
                time,
                f"{time},v0={digest}",
                f"t=99999999999999999999,v1={digest}",
                f"{time},v1=\u00e9",
                f"t=\u0661,v1={digest}",
                "," * 500,
            )
        ),
        signed(bench, body, headers={}),
    ]
    calls = sum(shop.cutter.done.values())
    for request in forged:
        assert await refusal(bench, request) == "SIGNATURE_INVALID"
    assert sum(shop.cutter.done.values()) == calls, "nothing was asked for it"
    assert await bench.get(payment.payment_id) == payment
    assert not bench.rows("SELECT FROM orchestration.processor_event WHERE tenant_id = %(tenant)s")
    assert (await bench.payments.ReceiveWebhook(signed(bench, body))).outcome == APPLIED


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b"{}", b'{"id": 7}', b'{"id": ""}', b'{"id": "4111111111111111"}', b"[" * 9999],
)
async def test_what_is_signed_and_no_event_is_refused(shop: Shop, body: bytes) -> None:
    await open_shop(shop)
    assert await refusal(shop.bench, signed(shop.bench, body)) == "INVALID_FIELD"


@pytest.mark.parametrize(
    "body",
    [
        event("payment_intent.created", "att_1"),
        event("customer.created", "att_1"),
        event("payment_intent.succeeded", "order-of-another-system"),
        event("payment_intent.succeeded", ""),
        b'{"id": "evt_1", "type": "payment_intent.succeeded", "data": {"object": []}}',
        b'{"id": "evt_1", "type": "payment_intent.succeeded", "data": {"object": {"metadata": {"merchant_ref": 7}}}}',
        b'{"id": "evt_1", "type": 7}',
        b'{"id": "evt_1", "type": []}',
        b'{"id": "evt_1", "type": {"payment_intent.succeeded": 1}}',
        event("payment_intent.succeeded", "att_\0"),
        event("payment_intent.succeeded", "att_\ud800"),
        event("payment_intent.succeeded", "a" * 100_000),
        event("payment_intent.succeeded", "4111 1111 1111 1111"),
    ],
)
async def test_what_is_about_nothing_of_ours_is_taken_and_left(shop: Shop, body: bytes) -> None:
    await open_shop(shop)
    answer = await shop.bench.payments.ReceiveWebhook(signed(shop.bench, body))
    assert (answer.outcome, answer.payment_id) == (IGNORED, "")
    rows = shop.bench.rows(
        "SELECT attempt_id FROM orchestration.processor_event WHERE tenant_id = %(tenant)s"
    )
    assert [row["attempt_id"] for row in rows] == [""], "what is none of ours is not stored"


async def test_an_account_speaks_of_what_was_sent_to_it_alone(shop: Shop) -> None:
    """Neither another tenant's account nor that of another merchant has a word in it."""
    await open_shop(shop)
    payment = await in_doubt(shop)
    body = event("payment_intent.succeeded", payment.attempts[0].attempt_id)
    of = shop.bench
    other = Bench(of.mesh, of.runs, of.booker, of.clock, of.urls, f"t-{uuid.uuid4().hex[:12]}")
    stranger = Shop(other, shop.peer, shop.cutter, shop.base_url, shop.folder)
    await open_shop(stranger)
    answer = await other.payments.ReceiveWebhook(signed(other, body))
    assert (answer.outcome, answer.payment_id) == (IGNORED, "")
    # Another merchant of the same tenant, who calls an account of its own by the same name.
    keep_credential(
        shop.folder, of.tenant_id, shop.base_url, "theirs", webhook_secrets=["whsec_theirs"]
    )
    await of.configure(
        {"method": "card", "processor_id": "stripe"},
        merchant="boutique",
        processors=[processor(shop.base_url, credential_ref="theirs")],
    )
    answer = await of.payments.ReceiveWebhook(signed(of, body, secret="whsec_theirs"))
    assert (answer.outcome, answer.payment_id) == (IGNORED, "")
    assert await of.get(payment.payment_id) == payment
    # Nor does its event stand in the way of the same one, told by who may: ids are the processor's.
    assert (await of.payments.ReceiveWebhook(signed(of, body))).outcome == APPLIED
    assert (await of.payments.ReceiveWebhook(signed(of, body))).outcome == REPEATED


async def test_an_id_that_another_account_has_used_is_no_repetition(shop: Shop) -> None:
    await open_shop(shop)
    payment = await in_doubt(shop)
    body = event("payment_intent.succeeded", payment.attempts[0].attempt_id, "evt_1")
    nothing = event("customer.created", "", "evt_1")
    assert (
        await shop.bench.payments.ReceiveWebhook(signed(shop.bench, nothing))
    ).outcome == IGNORED
    assert (await shop.bench.payments.ReceiveWebhook(signed(shop.bench, body))).outcome == APPLIED
    assert status(await shop.bench.get(payment.payment_id)) == "SUCCEEDED"


async def test_merchants_that_share_an_account_are_both_heard(shop: Shop) -> None:
    """One endpoint of the processor tells of both, with one secret that is kept by two names."""
    await open_shop(shop)
    of = shop.bench
    # Either may be found first by its name.
    for credential_ref in ("a-shared", "z-shared"):
        keep_credential(
            shop.folder, of.tenant_id, shop.base_url, credential_ref, webhook_secrets=[SECRET]
        )
        await of.configure(
            {"method": "card", "processor_id": "stripe"},
            merchant=f"boutique-{credential_ref}",
            processors=[processor(shop.base_url, credential_ref=credential_ref)],
        )
    payment = await in_doubt(shop)
    body = event("payment_intent.succeeded", payment.attempts[0].attempt_id)
    assert (await of.payments.ReceiveWebhook(signed(of, body))).outcome == APPLIED


async def test_a_word_waits_for_who_works_on_its_payment(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await open_shop(shop)
    payment = await in_doubt(shop)
    monkeypatch.setattr(webhooks, "WAIT_SECONDS_MAX", 0.0)
    lease = (
        "UPDATE orchestration.payment SET lease_owner = 'another', lease_until = {until}, due_at = created_at"
        " WHERE tenant_id = %(tenant)s"
    )
    shop.bench.execute(lease.format(until="clock_timestamp() + interval '1 hour'"))
    body = event("payment_intent.succeeded", payment.attempts[0].attempt_id)
    asked = shop.cutter.done.total()
    assert await refusal(shop.bench, signed(shop.bench, body)) == "PAYMENT_UNDER_WAY"
    assert shop.cutter.done.total() == asked, "a question could call off what is about to be done"
    shop.bench.execute(lease.format(until="clock_timestamp() - interval '1 hour'"))
    answer = await shop.bench.payments.ReceiveWebhook(signed(shop.bench, body))
    assert answer.outcome == APPLIED, "it was not kept when it was refused"


async def test_a_processor_is_asked_once_when_its_payment_is_free(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await open_shop(shop)
    payment = await in_doubt(shop)
    lease = (
        "UPDATE orchestration.payment SET lease_owner = 'another', lease_until = {until}, due_at = created_at"
        " WHERE tenant_id = %(tenant)s"
    )
    shop.bench.execute(lease.format(until="clock_timestamp() + interval '1 hour'"))
    looks, questions = 0, 0
    lookup = StripeAdapter.lookup

    async def waited(*_: object) -> None:
        nonlocal looks
        looks += 1
        if looks == 5:
            shop.bench.execute(lease.format(until="clock_timestamp() - interval '1 hour'"))

    async def counted(self: StripeAdapter, access: Access, inquiry: Inquiry) -> Finding:
        nonlocal questions
        assert looks == 5, "it is under way"
        questions += 1
        return await lookup(self, access, inquiry)

    monkeypatch.setattr(webhooks.ReceiveWebhook, "_wait", waited)
    monkeypatch.setattr(webhooks, "WAIT_SECONDS_MAX", 60.0)
    monkeypatch.setattr(StripeAdapter, "lookup", counted)
    answer = await tell(shop.bench, "payment_intent.succeeded", payment.attempts[0].attempt_id)
    assert (answer.outcome, looks, questions) == (APPLIED, 5, 1)


async def test_what_is_known_already_is_not_applied_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The processor is asked, for its word may be new; its answer says what came of it."""
    await open_shop(shop)
    declined = await shop.bench.pay(
        payment_methods=[{"method": "card", "token": "pm_card_chargeCustomerFail"}]
    )
    assert step_statuses(declined) == ["DECLINED"]
    asked = shop.cutter.done.total()
    answer = await tell(shop.bench, "payment_intent.canceled", declined.attempts[0].attempt_id)
    assert shop.cutter.done.total() > asked
    assert (answer.outcome, answer.payment_id) == (IGNORED, declined.payment_id)
    assert await shop.bench.get(declined.payment_id) == declined
    payment = await in_doubt(shop)

    async def pending(*_: object) -> Pending:
        return Pending("pi_1")

    monkeypatch.setattr(StripeAdapter, "lookup", pending)
    for outcome in (APPLIED, IGNORED):
        answer = await tell(shop.bench, "payment_intent.processing", payment.attempts[0].attempt_id)
        assert answer.outcome == outcome
    assert step_statuses(await shop.bench.get(payment.payment_id)) == ["PENDING"]


async def test_a_word_of_which_the_processor_knows_nothing_changes_nothing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await open_shop(shop)
    payment = await in_doubt(shop)

    async def nothing(*_: object) -> NotFound:
        return NotFound()

    monkeypatch.setattr(StripeAdapter, "lookup", nothing)
    answer = await tell(shop.bench, "payment_intent.succeeded", payment.attempts[0].attempt_id)
    assert (answer.outcome, answer.payment_id) == (IGNORED, payment.payment_id)
    assert await shop.bench.get(payment.payment_id) == payment


async def test_one_of_many_accounts_is_heard(shop: Shop) -> None:
    """Each merchant of a tenant has its own account, all under one name: the signature finds the right one."""
    await open_shop(shop)
    of = shop.bench
    for number in range(60):
        name = f"a-{number:02}"
        keep_credential(
            shop.folder, of.tenant_id, shop.base_url, name, webhook_secrets=[f"whsec_of_{name}"]
        )
        await of.configure(
            {"method": "card", "processor_id": "stripe"},
            merchant=f"boutique-{name}",
            processors=[processor(shop.base_url, credential_ref=name)],
        )
    payment = await in_doubt(shop)
    for body, outcome in (
        (event("customer.created", ""), IGNORED),
        (event("payment_intent.succeeded", payment.attempts[0].attempt_id), APPLIED),
    ):
        assert (await of.payments.ReceiveWebhook(signed(of, body))).outcome == outcome


async def test_an_account_is_found_by_what_was_sent_to_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many accounts have the name: only what names nothing of ours is compared with a bounded list of them."""
    await open_shop(shop)
    of = shop.bench
    keep_credential(
        shop.folder, of.tenant_id, shop.base_url, "a-first", webhook_secrets=["whsec_first"]
    )
    await of.configure(
        {"method": "card", "processor_id": "stripe"},
        merchant="boutique",
        processors=[processor(shop.base_url, credential_ref="a-first")],
    )
    payment = await in_doubt(shop)
    monkeypatch.setattr(store, "ACCOUNTS_MAX", 1)
    # The merchant has gone over to another account since, and the event is about the old one still.
    keep_credential(
        shop.folder, of.tenant_id, shop.base_url, "b-next", webhook_secrets=["whsec_next"]
    )
    await of.configure(
        {"method": "card", "processor_id": "stripe"},
        processors=[processor(shop.base_url, credential_ref="b-next")],
    )
    body = event("payment_intent.succeeded", payment.attempts[0].attempt_id)
    nothing = event("customer.created", "")
    assert await refusal(of, signed(of, nothing)) == "SIGNATURE_INVALID", "it is not in the list"
    assert await refusal(of, signed(of, body, secret="whsec_next")) == "SIGNATURE_INVALID"
    theirs = await of.payments.ReceiveWebhook(signed(of, body, secret="whsec_first"))
    assert (theirs.outcome, theirs.payment_id) == (IGNORED, ""), "naming an attempt is no right"
    answer = await of.payments.ReceiveWebhook(signed(of, body))
    assert (answer.outcome, answer.payment_id) == (APPLIED, payment.payment_id)


async def test_a_processor_that_does_not_answer_is_to_tell_again(shop: Shop) -> None:
    await open_shop(shop)
    payment = await in_doubt(shop)
    body = event("payment_intent.succeeded", payment.attempts[0].attempt_id)
    shop.cutter.fault = lambda request: Fault.CUT_BEFORE
    assert await refusal(shop.bench, signed(shop.bench, body)) == "PROCESSOR_SILENT"
    assert await shop.bench.get(payment.payment_id) == payment
    shop.cutter.fault = lambda request: Fault.NONE
    answer = await shop.bench.payments.ReceiveWebhook(signed(shop.bench, body))
    assert answer.outcome == APPLIED
    assert status(await shop.bench.get(payment.payment_id)) == "SUCCEEDED"


async def test_a_processor_whose_word_cannot_be_checked_is_not_heard(shop: Shop) -> None:
    body = event("payment_intent.succeeded", "att_1")
    assert await refusal(shop.bench, signed(shop.bench, body)) == "NOT_FOUND"
    await shop.configure()
    assert await refusal(shop.bench, signed(shop.bench, body)) == "WEBHOOKS_NOT_EXPECTED"


async def test_what_is_old_is_forgotten(shop: Shop) -> None:
    await open_shop(shop)
    for _ in range(3):
        await tell(shop.bench, "customer.created", "")
    shop.bench.clock.advance(timedelta(days=31))
    await tell(shop.bench, "customer.created", "")
    rows = shop.bench.rows("SELECT FROM orchestration.processor_event WHERE tenant_id = %(tenant)s")
    assert len(rows) == 1
