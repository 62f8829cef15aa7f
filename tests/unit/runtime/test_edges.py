"""What comes from outside and is not what it should be; what comes after the end."""

from __future__ import annotations

import base64

import grpc
import pytest

from services.runtime.errors import DomainError, InvalidPageToken, NotFound, Unauthenticated
from services.runtime.events.bus import EventBus
from services.runtime.paging import _seal, decode_token
from services.runtime.status import RemoteError, grpc_code, to_status, trailers
from services.runtime.telemetry import _remote_parent, is_traceparent, new_traceparent


@pytest.mark.parametrize("body", [b"not json", b"[1]", b"7", b"[" * 100_000])
def test_a_forged_page_token_is_refused(body: bytes) -> None:
    forged = base64.urlsafe_b64encode(_seal(body, "list") + body).decode()
    with pytest.raises(InvalidPageToken):
        decode_token(forged, "list")


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
    assert not is_traceparent(text)
    assert _remote_parent(text) is None


def test_a_made_trace_context_is_one() -> None:
    assert is_traceparent(new_traceparent())


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
