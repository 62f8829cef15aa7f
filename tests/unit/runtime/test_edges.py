"""What comes from outside and is not what it should be; what comes after the end."""

from __future__ import annotations

import base64
from datetime import datetime

import grpc
import pytest

from services.runtime.edge.paging import Int32, _seal, decode_token, encode_token
from services.runtime.edge.status import RemoteError, grpc_code, to_status, trailers
from services.runtime.errors import DomainError, InvalidPageToken, NotFound, Unauthenticated
from services.runtime.events.bus import EventBus
from services.runtime.telemetry import new_traceparent, read_traceparent


def forged(body: bytes) -> str:
    """A token whose seal is right: that is no secret."""
    return base64.urlsafe_b64encode(_seal(body, "list") + body).decode()


@pytest.mark.parametrize("body", [b"not json", b"[1]", b"7", b"null", b"\xff", b"[" * 100_000])
def test_a_forged_page_token_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidPageToken):
        decode_token(forged(body), "list", {"after": str})


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        *((str, value) for value in ("1", "null", "[]", '"\\u0000"', '"\\ud800"', "true")),
        *((int, value) for value in ('"1"', "true", "1.5", "1e3", "NaN", "null")),
        *((int, value) for value in (str(2**63), str(-(2**63) - 1), "9" * 5000)),
        *((Int32, value) for value in (str(2**31), str(-(2**31) - 1), str(2**62), "true", '"1"')),
        *((datetime, value) for value in ("1", "null", '"yesterday"', '"2026-01-01"', '""')),
        *((datetime, value) for value in ('"2026-01-01T00:00:00"', '"0001-01-01T00:00:00+14:00"')),
        (datetime, '"9999-12-31T23:59:59-14:00"'),
    ],
)
def test_a_position_is_read_as_what_it_must_be(kind: type, value: str) -> None:
    for body in (f'{{"after": {value}}}', '{"other": "x"}', "{}"):
        with pytest.raises(InvalidPageToken):
            decode_token(forged(body.encode()), "list", {"after": kind})


@pytest.mark.parametrize("odd", ["é", "a\0", "a b", "!!!!", "a", "x" * 10_000, " "])
def test_odd_text_around_a_page_token_is_not_passed_over(odd: str) -> None:
    sound = encode_token({"after": "x"}, "list")
    for token in (odd, sound + odd, odd + sound, sound[:5] + odd + sound[5:]):
        with pytest.raises(InvalidPageToken):
            decode_token(token, "list", {"after": str})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-".join(["00", "z" * 32, "0" * 15 + "1", "01"]),
        "-".join(["00", "0" * 32, "0" * 15 + "1", "01"]),
        "-".join(["00", "a" * 32, "", "01"]),
        "-".join(["00", "a" * 32, "b" * 16, "01\n"]),
    ],
)
def test_what_is_no_trace_context_is_not_passed_on(text: str) -> None:
    assert read_traceparent(text) == ""


def test_a_made_trace_context_is_one() -> None:
    made = new_traceparent()
    assert read_traceparent(made) == made


async def test_who_listens_after_the_end_is_told_so() -> None:
    bus = EventBus()
    with bus.listener() as early:
        bus.close()
        assert early.closed
    with bus.listener() as late:
        assert late.closed


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"),
        (grpc.StatusCode.UNAVAILABLE, "DEPENDENCY_UNAVAILABLE"),
        (grpc.StatusCode.CANCELLED, "DEPENDENCY_UNAVAILABLE"),
    ],
)
def test_a_service_that_is_late_is_told_from_one_that_is_away(
    code: grpc.StatusCode, reason: str
) -> None:
    empty = grpc.aio.Metadata()
    error = RemoteError.of(grpc.aio.AioRpcError(code, empty, empty), "ledger")
    assert isinstance(error, DomainError)
    assert (error.reason, error.metadata) == (reason, {"service": "ledger"})
    assert error.transient


@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        (Unauthenticated("expired", cause="mesh_token"), "DEPENDENCY_UNAVAILABLE"),
        (NotFound("plan", "p"), "NOT_FOUND"),
    ],
)
def test_a_token_that_another_service_refuses_is_no_answer_to_store(
    refused: DomainError, reason: str
) -> None:
    sent = grpc.aio.Metadata(*trailers(to_status(refused)))
    error = RemoteError.of(
        grpc.aio.AioRpcError(grpc_code(refused.code), grpc.aio.Metadata(), sent), "ledger"
    )
    assert (error.reason, error.transient) == (reason, reason == "DEPENDENCY_UNAVAILABLE")
