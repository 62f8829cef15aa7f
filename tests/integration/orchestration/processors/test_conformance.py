"""What every adapter owes, shown on each with its processor's own books as the oracle."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.orchestration.domain.operations import Operation
from services.orchestration.ports import NotFound, NotSent, Order, Settled, Unknown, Verdict
from tests.support.peers.cutter import Fault

from .conftest import Subject

ERROR_CODES = {"declined", "invalid_card", "network_failure", "timeout", "unknown"}


def done(verdict: object, order: Order) -> Settled:
    """An answer that the order was carried out speaks about it."""
    assert isinstance(verdict, Settled)
    assert verdict.done, verdict.message
    assert (verdict.amount_minor, verdict.currency) == (order.amount_minor, order.currency)
    assert verdict.merchant_ref == order.merchant_ref
    assert verdict.provider_ref
    return verdict


def refused(verdict: object) -> Settled:
    assert isinstance(verdict, Settled)
    assert not verdict.done
    assert verdict.error_code in ERROR_CODES
    assert verdict.failure_code
    return verdict


async def taken(subject: Subject, operation: Operation, order: Order) -> Settled:
    return done(await subject.processor.ask(operation, order), order)


def following(
    subject: Subject, parent: Order, settled: Settled, amount_minor: int, *, closes: bool = False
) -> Order:
    order = subject.order(amount_minor)
    return replace(
        order, parent_key=parent.idempotency_key, parent_ref=settled.provider_ref, closes=closes
    )


async def test_a_charge_is_found_by_either_reference(subject: Subject) -> None:
    order = subject.order()
    settled = await taken(subject, Operation.CHARGE, order)
    assert subject.net_minor()[order.merchant_ref] == order.amount_minor
    for provider_ref in ("", settled.provider_ref):
        inquiry = subject.inquiry(Operation.CHARGE, order, provider_ref)
        found = done(await subject.processor.lookup(inquiry), order)
        assert found.provider_ref == settled.provider_ref
    assert subject.net_minor()[order.merchant_ref] == order.amount_minor


async def test_a_decline_is_settled_and_takes_nothing(subject: Subject) -> None:
    order = replace(subject.order(), token=subject.decline)
    settled = refused(await subject.processor.ask(Operation.CHARGE, order))
    assert (settled.error_code, settled.failure_code) == subject.decline_codes
    found = refused(await subject.processor.lookup(subject.inquiry(Operation.CHARGE, order)))
    assert (found.error_code, found.failure_code) == subject.decline_codes
    assert subject.net_minor()[order.merchant_ref] == 0


async def test_an_unknown_instrument_is_refused(subject: Subject) -> None:
    order = replace(subject.order(), token="no_such_instrument")
    refused(await subject.processor.ask(Operation.CHARGE, order))
    assert subject.net_minor()[order.merchant_ref] == 0


async def test_what_was_never_sent_is_not_found(subject: Subject) -> None:
    order = subject.order()
    for operation in (Operation.CHARGE, Operation.AUTHORIZE):
        found = await subject.processor.lookup(subject.inquiry(operation, order))
        assert isinstance(found, NotFound) or not done_of(found)
    assert subject.net_minor()[order.merchant_ref] == 0


def done_of(found: object) -> bool:
    assert isinstance(found, Settled)
    return found.done


async def test_an_authorisation_takes_nothing_until_it_is_captured(subject: Subject) -> None:
    order = subject.order(1000)
    held = await taken(subject, Operation.AUTHORIZE, order)
    assert subject.net_minor()[order.merchant_ref] == 0
    done(await subject.processor.lookup(subject.inquiry(Operation.AUTHORIZE, order)), order)

    capture = following(subject, order, held, 600, closes=True)
    captured = await taken(subject, Operation.CAPTURE, capture)
    assert subject.net_minor()[order.merchant_ref] == 600
    inquiry = subject.inquiry(Operation.CAPTURE, capture)
    done(await subject.processor.lookup(inquiry), capture)

    for amount_minor, left in ((200, 400), (400, 0)):
        refund = following(subject, capture, captured, amount_minor)
        await taken(subject, Operation.REFUND, refund)
        done(await subject.processor.lookup(subject.inquiry(Operation.REFUND, refund)), refund)
        assert subject.net_minor()[order.merchant_ref] == left


async def test_what_is_let_go_cannot_be_captured(subject: Subject) -> None:
    order = subject.order()
    held = await taken(subject, Operation.AUTHORIZE, order)
    void = following(subject, order, held, order.amount_minor)
    await taken(subject, Operation.VOID, void)
    done(await subject.processor.lookup(subject.inquiry(Operation.VOID, void)), void)
    late = following(subject, order, held, 100, closes=True)
    verdict = await subject.processor.ask(Operation.CAPTURE, late)
    assert isinstance(verdict, Unknown) or not done_of(verdict)
    if not subject.captures_what_was_let_go:
        assert subject.net_minor()[order.merchant_ref] == 0


async def test_a_refund_of_nothing_that_is_known_gives_nothing(subject: Subject) -> None:
    refund = replace(subject.order(), parent_key="none")
    verdict = await subject.processor.ask(Operation.REFUND, refund)
    refused(verdict)
    found = await subject.processor.lookup(subject.inquiry(Operation.REFUND, refund))
    assert isinstance(found, NotFound) or not done_of(found)


async def test_the_same_key_again_takes_nothing_more(subject: Subject) -> None:
    order = subject.order()
    first = await taken(subject, Operation.CHARGE, order)
    if subject.processor.capabilities.replay_key:
        assert await subject.processor.ask(Operation.CHARGE, order) == first
    assert subject.net_minor()[order.merchant_ref] == order.amount_minor


async def test_a_connection_that_is_refused_was_not_sent(subject: Subject) -> None:
    assert subject.unreachable is not None
    order = subject.order()
    assert isinstance(await subject.unreachable.ask(Operation.CHARGE, order), NotSent)


@pytest.mark.parametrize("fault", [Fault.CUT_BEFORE, Fault.REPLY_LOST, Fault.HALF_REPLY])
async def test_a_lost_answer_is_never_a_verdict(lossy: Subject, fault: Fault) -> None:
    order = lossy.order()
    with lossy.fault(fault, lossy.moving):
        verdict = await lossy.processor.ask(Operation.CHARGE, order)
    assert isinstance(verdict, Unknown)
    charged = lossy.net_minor()[order.merchant_ref]
    assert charged == (0 if fault is Fault.CUT_BEFORE else order.amount_minor)
    for provider_ref in ("", verdict.provider_ref):
        inquiry = lossy.inquiry(Operation.CHARGE, order, provider_ref)
        found = await lossy.processor.lookup(inquiry)
        # One that makes an order first has seen it; one that does not, has not.
        if charged or lossy.processor.capabilities.two_phase:
            assert done_of(found) is bool(charged)
        else:
            assert isinstance(found, NotFound)
    assert lossy.net_minor()[order.merchant_ref] == charged


@pytest.mark.parametrize("fault", [Fault.CUT_BEFORE, Fault.REPLY_LOST])
async def test_what_is_only_made_takes_nothing(stripe: Subject, fault: Fault) -> None:
    order = stripe.order()
    with stripe.fault(fault, b"POST /v1/payment_intents "):
        verdict: Verdict = await stripe.processor.ask(Operation.CHARGE, order)
    assert isinstance(verdict, NotSent)
    assert stripe.net_minor()[order.merchant_ref] == 0


async def test_the_question_calls_off_what_was_not_confirmed(stripe: Subject) -> None:
    order = stripe.order()
    with stripe.fault(Fault.CUT_BEFORE, stripe.moving):
        lost = await stripe.processor.ask(Operation.CHARGE, order)
    assert isinstance(lost, Unknown)
    refused(await stripe.processor.lookup(stripe.inquiry(Operation.CHARGE, order)))
    assert stripe.cutter is not None
    # The confirmation that was under way all the time arrives now.
    calls = sum(stripe.cutter.done.values())
    again = stripe.inquiry(Operation.CHARGE, order, lost.provider_ref)
    refused(await stripe.processor.lookup(again))
    assert sum(stripe.cutter.done.values()) == calls + 1, "nothing is left to call off"


async def test_an_amount_that_has_no_number_there_never_leaves(stripe: Subject) -> None:
    assert stripe.cutter is not None
    verdict = refused(await stripe.processor.ask(Operation.CHARGE, stripe.order(1001, "KWD")))
    assert "multiple of 10" in verdict.message
    assert verdict.retryable
    assert sum(stripe.cutter.done.values()) == 0
