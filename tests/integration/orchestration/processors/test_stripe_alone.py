"""What Stripe does and localstripe does not: keys, an account's methods that lead away, several captures of one
authorisation, whose PaymentIntent tells only their sum.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web

from services.orchestration.adapters.stripe.adapter import StripeAdapter
from services.orchestration.domain.operations import Operation
from services.orchestration.domain.processors import ProcessorConfig
from services.orchestration.ports import NotFound, NotSent, Order, Settled, Unknown

from .conftest import Ground, Subject
from .test_conformance import done, following, taken

CONFIG = ProcessorConfig("stripe", "stripe", settings=(("multicapture", "true"),))


@dataclass
class Peer:
    """An account with methods that lead the payer away. Its PaymentIntents may be captured several times, and its keys
    give the first answer again.

    Attributes:
        loses: the next answer never arrives.
        says: in place of each answer, where it is not None.
        ends_as: status after what is left was let go beside captures.
        pages: of the list, that were given.
    """

    intents: dict[str, dict[str, Any]] = field(default_factory=dict)
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    loses: bool = False
    says: Any = None
    ends_as: str = "canceled"
    pages: int = 0

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer a call."""
        form = dict(await request.post())
        if self.says is not None:
            return web.json_response(self.says)
        if request.method == "GET" and not request.match_info["path"]:
            return web.json_response(self._listed(request.query))
        key = request.headers.get("Idempotency-Key", "")
        answer = self.answers.get(key) or self._carry_out(request.match_info["path"], form)
        if key:
            self.answers[key] = answer
        if "error" in answer:
            return web.json_response(answer, status=400)
        if self.loses and request.transport is not None:
            self.loses = False
            request.transport.abort()
        return web.json_response(answer)

    def _listed(self, query: Mapping[str, str]) -> dict[str, Any]:
        """Give a page, the newest first."""
        self.pages += 1
        found = list(self.intents.values())[::-1]
        after = query.get("starting_after")
        start = [each["id"] for each in found].index(after) + 1 if after else 0
        end = start + int(query["limit"])
        return {"object": "list", "data": found[start:end], "has_more": end < len(found)}

    def _carry_out(self, path: str, form: dict[str, Any]) -> dict[str, Any]:
        if not path:
            intent = {
                "id": f"pi_{len(self.intents)}",
                "object": "payment_intent",
                "status": "requires_confirmation",
                "amount": int(form["amount"]),
                "amount_received": 0,
                "currency": form["currency"],
                "capture_method": form["capture_method"],
                "metadata": {"merchant_ref": form["metadata[merchant_ref]"]},
                "leads_away": form.get("automatic_payment_methods[allow_redirects]") != "never",
                "asked": form.get("payment_method_options[card][request_multicapture]"),
            }
            self.intents[str(intent["id"])] = intent
            return dict(intent)
        intent_id, _, action = path.strip("/").partition("/")
        intent = self.intents[intent_id]
        if action == "confirm" and intent["leads_away"]:
            said = "a return_url must be specified"
            return {"error": {"type": "invalid_request_error", "message": said}}
        if action == "confirm":
            charges = intent["capture_method"] == "automatic"
            intent["status"] = "succeeded" if charges else "requires_capture"
            intent["amount_received"] = intent["amount"] if charges else 0
        elif action == "cancel":
            intent["status"] = self.ends_as if intent["amount_received"] else "canceled"
        elif action == "capture":
            intent["amount_received"] += int(form["amount_to_capture"])
            if form["final_capture"] == "True" or form["final_capture"] == "true":
                intent["status"] = "succeeded"
        return dict(intent)


@pytest.fixture
async def captures(ground: Ground, caller: None) -> AsyncIterator[tuple[Subject, Peer]]:
    """Stripe's adapter and the peer."""
    peer = Peer()
    app = web.Application()
    app.router.add_route("*", "/v1/payment_intents{path:.*}", peer.serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    processor = ground.build(CONFIG, f"http://127.0.0.1:{port}")
    yield Subject(processor, ground.runtime.clock.now, "pm_card_visa", "", Counter), peer
    await runner.cleanup()


async def held(subject: Subject, peer: Peer) -> tuple[Order, Settled, dict[str, Any]]:
    order = subject.order(1000)
    settled = await taken(subject, Operation.AUTHORIZE, order)
    (intent,) = peer.intents.values()
    assert intent["asked"] == "if_available"
    return order, settled, intent


async def test_no_method_that_leads_the_payer_away_is_asked_for(
    captures: tuple[Subject, Peer],
) -> None:
    """An account that has some refuses to confirm otherwise: each payment would be declined."""
    subject, _ = captures
    await taken(subject, Operation.CHARGE, subject.order(1000))
    await taken(subject, Operation.AUTHORIZE, subject.order(1000))


@pytest.mark.parametrize("says", [{}, [], 7, "made", {"id_": "pi_1"}])
async def test_an_order_that_was_not_made_beyond_doubt_was_not_sent(
    captures: tuple[Subject, Peer], says: object
) -> None:
    """Nothing was confirmed, so nothing was charged: the next processor may be asked at once."""
    subject, peer = captures
    peer.says = says
    answer = await subject.processor.ask(Operation.CHARGE, subject.order(1000))
    assert isinstance(answer, NotSent), answer
    assert "no order was made" in answer.reason


async def test_each_of_several_captures_is_told_by_its_own_amount(
    captures: tuple[Subject, Peer],
) -> None:
    subject, peer = captures
    order, settled, intent = await held(subject, peer)
    for amount_minor, closes in ((300, False), (200, False), (100, True)):
        await taken(
            subject,
            Operation.CAPTURE,
            following(subject, order, settled, amount_minor, closes=closes),
        )
    assert (intent["status"], intent["amount_received"]) == ("succeeded", 600)


async def test_a_capture_whose_answer_is_lost_is_made_once(captures: tuple[Subject, Peer]) -> None:
    subject, peer = captures
    order, settled, intent = await held(subject, peer)
    first = following(subject, order, settled, 300)
    inquiry = subject.inquiry(Operation.CAPTURE, first)
    assert isinstance(await subject.processor.lookup(inquiry), NotFound), "nothing was captured"
    await taken(subject, Operation.CAPTURE, first)
    second = following(subject, order, settled, 300)
    peer.loses = True
    assert isinstance(await subject.processor.ask(Operation.CAPTURE, second), Unknown)
    inquiry = subject.inquiry(Operation.CAPTURE, second)
    assert isinstance(await subject.processor.lookup(inquiry), Unknown), "no proof that it was not"
    assert subject.processor.capabilities.replay_key
    await taken(subject, Operation.CAPTURE, second)
    assert intent["amount_received"] == 600
    more = replace(second, amount_minor=601)
    found = await subject.processor.lookup(subject.inquiry(Operation.CAPTURE, more))
    assert isinstance(found, NotFound), "less was captured than it asked for"


@pytest.mark.parametrize("ends_as", ["canceled", "succeeded"])
async def test_what_captures_left_is_let_go(captures: tuple[Subject, Peer], ends_as: str) -> None:
    subject, peer = captures
    peer.ends_as = ends_as
    order, settled, _ = await held(subject, peer)
    await taken(subject, Operation.CAPTURE, following(subject, order, settled, 300))
    rest = following(subject, order, settled, 700)
    await taken(subject, Operation.VOID, rest)
    done(await subject.processor.lookup(subject.inquiry(Operation.VOID, rest)), rest)


def test_several_captures_need_keys() -> None:
    config = replace(CONFIG, settings=(("idempotency_keys", "false"), ("multicapture", "true")))
    (fault,) = StripeAdapter().check(config)
    assert fault.field == "settings[multicapture]"


async def test_an_order_whose_key_is_forgotten_is_found_in_the_list(
    captures: tuple[Subject, Peer],
) -> None:
    """Page by page, without the library's objects, whose making would hold up everybody else."""
    subject, peer = captures
    order = subject.order(1000)
    settled = await taken(subject, Operation.CHARGE, order)
    for number in range(250):
        made = {"id": f"pi_other_{number}", "status": "succeeded", "metadata": {}}
        peer.intents[str(made["id"])] = made
    inquiry = replace(
        subject.inquiry(Operation.CHARGE, order), sent_at=subject.now() - timedelta(hours=30)
    )
    found = await subject.processor.lookup(inquiry)
    assert isinstance(found, Settled)
    assert (found.provider_ref, found.amount_minor) == (settled.provider_ref, 1000)
    assert peer.pages == 3
    never = replace(inquiry, order=subject.order(1000))
    assert isinstance(await subject.processor.lookup(never), NotFound)


@pytest.mark.parametrize(
    "says",
    [
        [],
        7,
        {"data": 7},
        {"data": ["pi_1"]},
        {"data": None},
        {},
        # More is said to follow, and there is no way to it.
        {"data": [{}], "has_more": True},
        {"data": [{"id": None}], "has_more": True},
        {"data": [{"id": 7}], "has_more": True},
        {"data": [{"id": "pi_1", "metadata": {}}], "has_more": True},
    ],
)
async def test_a_list_that_is_none_proves_nothing(
    captures: tuple[Subject, Peer], says: object
) -> None:
    subject, peer = captures
    peer.says = says
    inquiry = subject.inquiry(Operation.CHARGE, subject.order(1000))
    inquiry = replace(inquiry, sent_at=subject.now() - timedelta(hours=30))
    found = await subject.processor.lookup(inquiry)
    assert isinstance(found, Unknown)
    assert found.reason == "Stripe answered APIError", "it asked until its time was over"
