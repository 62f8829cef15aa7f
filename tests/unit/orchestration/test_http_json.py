"""The form of a gateway as a configuration says it, and every answer that one may give."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from services.orchestration.adapters.credentials import Credential
from services.orchestration.adapters.http_json.adapter import HttpJsonAdapter
from services.orchestration.adapters.registry import Access
from services.orchestration.adapters.wire import NoReply, NotReached, Reply, Wire
from services.orchestration.domain.operations import Operation
from services.orchestration.domain.processors import ProcessorConfig
from services.orchestration.ports import (
    Inquiry,
    NotFound,
    NotSent,
    Order,
    Pending,
    Settled,
    Unknown,
)
from services.runtime.addresses import AllowList
from services.runtime.clock import ManualClock

AT = datetime(2026, 11, 1, tzinfo=UTC)
PLAIN = {
    "charge.path": "/charges",
    "refund.path": "/refunds",
    "lookup.path": "/orders/{merchant_ref}",
}
DONE = {"status": "done", "id": "c-1", "amount": 1000, "currency": "USD", "merchant_ref": "att_1"}
ADAPTER = HttpJsonAdapter()
ORDER = Order("key", "att_1", 1000, "USD", "tok")


class Told(Wire):
    """Answers as it is told to."""

    def __init__(self, answer: Reply | Exception) -> None:
        super().__init__(AllowList.parse(""))
        self.answer = answer
        self.sent: list[tuple[str, str, Mapping[str, str], bytes | None]] = []

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> Reply:
        self.sent.append((method, url, headers, body))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def config(**settings: str) -> ProcessorConfig:
    given = PLAIN | {name.replace("__", "."): value for name, value in settings.items()}
    return ProcessorConfig("house", "http-json", settings=tuple(sorted(given.items())))


def access(wire: Wire, **settings: str) -> Access:
    credential = Credential(SecretStr("s"))
    return Access(config(**settings), "https://pay.example/api", credential, wire, ManualClock(AT))


def reply(status: int, content: Any) -> Reply:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return Reply(status, {}, body)


def asked(answer: Reply | Exception, **settings: str) -> Any:
    return asyncio.run(ADAPTER.ask(access(Told(answer), **settings), Operation.CHARGE, ORDER))


def looked_up(answer: Reply | Exception, **settings: str) -> Any:
    inquiry = Inquiry(Operation.CHARGE, ORDER, AT)
    return asyncio.run(ADAPTER.lookup(access(Told(answer), **settings), inquiry))


def test_a_whole_answer_is_believed() -> None:
    done = Settled(True, "c-1", 1000, "USD", "att_1")
    assert asked(reply(201, DONE)) == looked_up(reply(200, DONE)) == done
    assert asked(reply(200, DONE | {"status": "SUCCEEDED"})) == done
    assert asked(reply(202, {"status": "pending", "id": "c-1"})) == Pending("c-1")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[" * 5000,
        b"\xff",
        [],
        "done",
        7,
        None,
        {},
        {"status": "perhaps", "id": "c-1"},
        {"status": True, "id": "c-1"},
        DONE | {"id": ""},
        DONE | {"id": None},
        DONE | {"amount": "1000"},
        DONE | {"amount": 10.5},
        DONE | {"amount": True},
        DONE | {"amount": None},
        DONE | {"currency": None},
        DONE | {"merchant_ref": 7},
    ],
)
def test_what_is_not_clear_leaves_the_outcome_unknown(content: Any) -> None:
    for status in (200, 204, 302, 409, 429):
        assert isinstance(asked(reply(status, content)), Unknown)
    assert isinstance(looked_up(reply(200, content)), Unknown)


def test_a_server_that_fails_says_nothing_whatever_it_says() -> None:
    for status in (500, 502, 503, 599):
        assert isinstance(asked(reply(status, DONE)), Unknown)
        assert isinstance(looked_up(reply(status, DONE)), Unknown)
    for status in (301, 400, 401, 403, 429):
        assert isinstance(looked_up(reply(status, DONE)), Unknown)
    assert looked_up(reply(404, {})) == NotFound()


def test_what_was_not_sent_is_told_from_what_was_not_answered() -> None:
    assert isinstance(asked(NotReached("refused")), NotSent)
    assert isinstance(asked(NoReply("reset")), Unknown)
    assert isinstance(looked_up(NotReached("refused")), Unknown)


def test_refusals_have_their_meaning() -> None:
    said = {"status": "refused", "id": "c-1", "code": 51, "message": "no funds on 4111111111111111"}
    settings = {"code__51": "declined/insufficient_funds/elsewhere"}
    found = asked(reply(402, said), **settings)
    assert (found.done, found.error_code, found.failure_code, found.retryable) == (
        False,
        "declined",
        "insufficient_funds",
        True,
    )
    assert found.message.startswith("51: no funds on")
    assert "4111111111111111" not in found.message
    found = asked(reply(402, said))
    assert (found.error_code, found.failure_code, found.retryable) == (
        "declined",
        "declined",
        False,
    )
    # Turned down before anything was read of it: another processor may take it.
    found = asked(reply(422, b"no"))
    assert (found.done, found.error_code, found.retryable) == (False, "unknown", True)


def test_amounts_as_decimals_are_exact() -> None:
    wire = Told(reply(200, b'{"status": "done", "id": "1", "sum": 10.00, "currency": "USD"}'))
    settings = {"amount": "decimal", "request__amount": "/sum/of", "answer__amount": "/sum"}
    settings |= {"answer__merchant_ref": ""}
    assert asyncio.run(ADAPTER.ask(access(wire, **settings), Operation.CHARGE, ORDER)) == Settled(
        True, "1", 1000, "USD", "att_1"
    )
    ((method, url, headers, body),) = wire.sent
    assert (method, url) == ("POST", "https://pay.example/api/charges")
    assert json.loads(body or b"") == {
        "sum": {"of": "10.00"},
        "currency": "USD",
        "merchant_ref": "att_1",
        "token": "tok",
        "operation": "charge",
        "closes": False,
    }
    assert headers["Idempotency-Key"] == "key"
    assert headers["Tollmesh-Signature"].startswith("t=1793491200,v1=")
    for odd in ("10.001", "NaN", "1e999999999", "ten", "", None, True, [10]):
        content = DONE | {"amount": odd}
        assert isinstance(asked(reply(200, content), amount="decimal"), Unknown), odd
    assert isinstance(asked(reply(200, DONE | {"currency": "???"}), amount="decimal"), Unknown)


def test_references_cannot_leave_their_place_in_a_path() -> None:
    wire = Told(reply(404, {}))
    order = Order("key", "att/../1?x=%", 1000, "USD")
    asyncio.run(ADAPTER.lookup(access(wire), Inquiry(Operation.CHARGE, order, AT)))
    assert wire.sent[0][1] == "https://pay.example/api/orders/att%2F..%2F1%3Fx%3D%25"


@given(st.integers(100, 599), st.binary(max_size=60))
def test_no_answer_makes_it_raise_or_charge(status: int, body: bytes) -> None:
    found = asked(Reply(status, {}, body))
    assert not (isinstance(found, Settled) and found.done)
    found = looked_up(Reply(status, {}, body))
    assert isinstance(found, Unknown | NotFound)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5), st.lists, max_leaves=5
    )
)
def test_no_json_makes_it_raise(content: Any) -> None:
    for name in DONE:
        asked(reply(200, DONE | {name: content}))
        asked(reply(200, DONE | {name: content}), amount="decimal")


def test_what_a_form_says_is_what_can_be_done() -> None:
    found = ADAPTER.capabilities(
        config(key_ttl_hours="0", refunds_max="3", partial_capture="false")
    )
    assert not found.holds
    assert not found.replay_key
    assert (found.refunds_max, found.partial_capture, found.lookup_by_ref) == (3, False, True)
    more = {f"{name}__path": "/x" for name in ("authorize", "capture", "void")}
    assert ADAPTER.capabilities(config(**more)).holds
    refused = asyncio.run(ADAPTER.ask(access(Told(reply(200, DONE))), Operation.AUTHORIZE, ORDER))
    assert isinstance(refused, Settled)
    assert not refused.done


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"charge__path": "charges"}, "charge.path"),
        ({"charge__path": "/charges?x=1"}, "charge.path"),
        ({"charge__path": "/{token}"}, "charge.path"),
        ({"refund__path": ""}, "refund.path"),
        ({"lookup__path": "/orders"}, "lookup.path"),
        ({"answer__status": ""}, "answer.status"),
        ({"answer__id": "id"}, "answer.id"),
        ({"answer__id": "/~2"}, "answer.id"),
        ({"request__colour": "/x"}, "request.colour"),
        ({"status__done": " , "}, "status.done"),
        ({"status__done": "ok", "status__refused": "OK"}, "status.done"),
        ({"code__51": "declined"}, "code.51"),
        ({"code__51": "declined/broke"}, "code.51"),
        ({"code__51": "declined/declined/here"}, "code.51"),
        ({"amount": "cents"}, "amount"),
        ({"key_ttl_hours": "-1"}, "key_ttl_hours"),
        ({"key_ttl_hours": "\u0661"}, "key_ttl_hours"),
        ({"captures_many": "yes"}, "captures_many"),
        ({"idempotency_header": "X Key"}, "idempotency_header"),
        ({"webhook__scheme": "md5"}, "webhook.scheme"),
        ({"webhook__id": ""}, "webhook.id"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_form_that_says_nothing_sensible_is_refused(settings: dict[str, str], field: str) -> None:
    assert [each.field for each in ADAPTER.check(config(**settings))] == [f"settings[{field}]"]
    assert ADAPTER.check(config()) == []
