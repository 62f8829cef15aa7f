"""What becomes of a call: its settings, its tries, its errors."""

import time
from datetime import timedelta
from typing import Any

import pytest
from payments_sdk.checked import FieldMisfit
from payments_sdk.google.protobuf import Any as Packed
from payments_sdk.google.rpc import (
    BadRequest,
    BadRequestFieldViolation,
    ErrorInfo,
    RetryInfo,
    Status,
)
from payments_sdk.payments.billing.v1 import CreateChargeRequest, GetChargeRequest
from payments_sdk.payments.metering.v1 import IngestEventsRequest, UsageEvent
from payments_sdk.rpc import BY_TOKEN, PagesDoNotEnd, items
from payments_sdk.services import charge, contract_monitor, metering
from payments_sdk.services.charge import ChargeService
from tollmesh_client import (
    NO_RETRIES,
    Client,
    ConfigurationError,
    MessageTooLarge,
    Retries,
    Tls,
    calls,
    errors,
)
from tollmesh_client.retries import Attempts
from tollmesh_client.settings import Settings

NO_WAIT = Retries(wait_first=0.001, wait_max=0.001)


def status(*details: Any) -> bytes:
    packed = [
        Packed(type_url=f"type.googleapis.com/google.rpc.{kind}", value=bytes(message))
        for kind, message in details
    ]
    return bytes(Status(code=3, message="…", details=packed))


def failed(code: str, retry_after: float | None = None) -> errors.CallError:
    return errors.BY_CODE[code]("…", details=errors.Details(retry_after=retry_after))


def test_an_error_has_its_class_and_all_that_the_mesh_says() -> None:
    violation = BadRequestFieldViolation(field="period", description="is needed")
    data = status(
        ("ErrorInfo", ErrorInfo("PERIOD_NOT_ENDED", "tollmesh.dev", {"end_at": "2026"})),
        ("BadRequest", BadRequest(field_violations=[violation])),
        ("RetryInfo", RetryInfo(retry_delay=timedelta(seconds=1.5))),
        ("Unheard", ErrorInfo("OTHER")),
    )
    trailers: list[tuple[str, str | bytes]] = [
        ("x-request-id", "call-1"),
        (errors.DETAILS_KEY, data),
    ]
    error = errors.call_error("FAILED_PRECONDITION", "not yet", trailers, "/x.Y/Z")
    assert isinstance(error, errors.FailedPrecondition)
    assert (error.reason, error.metadata, error.retry_after) == (
        "PERIOD_NOT_ENDED",
        {"end_at": "2026"},
        1.5,
    )
    assert [(at.field, at.description) for at in error.field_violations] == [
        ("period", "is needed")
    ]
    assert (error.call_id, error.method) == ("call-1", "/x.Y/Z")
    assert str(error) == "FAILED_PRECONDITION PERIOD_NOT_ENDED: not yet; period: is needed"


@pytest.mark.parametrize("details", [b"", b"\xff\xff", b"\x1a\x7f", "text"])
def test_details_that_are_none_are_none(details: Any) -> None:
    error = errors.call_error("UNAVAILABLE", "gone", [(errors.DETAILS_KEY, details)], "")
    assert isinstance(error, errors.Unavailable)
    assert str(error) == "UNAVAILABLE: gone"


def test_details_with_any_byte_of_them_damaged_leave_the_code_readable() -> None:
    violation = BadRequestFieldViolation(field="period", description="is needed")
    whole = status(
        ("ErrorInfo", ErrorInfo("R", "d", {"key": "value"})),
        ("BadRequest", BadRequest(field_violations=[violation])),
        ("RetryInfo", RetryInfo(retry_delay=timedelta(seconds=1.5))),
    )
    # Field 1 as a number where it is a message, and a wait of more seconds than a timedelta has.
    odd = [("BadRequest", b"\x08\x01"), ("RetryInfo", b"\x0a\x0a\x08" + b"\xff" * 8 + b"\x7f")]
    damaged = [
        whole[:at] + bytes([byte]) + whole[at + 1 :]
        for at in range(len(whole))
        for byte in (0, 8, 9, 0x0D, 0xFF)
    ]
    for details in (*damaged, *(whole[:at] for at in range(len(whole))), *map(status, odd)):
        error = errors.call_error("NOT_FOUND", "gone", [(errors.DETAILS_KEY, details)], "")
        assert isinstance(error, errors.NotFound)


def test_every_code_of_grpc_has_its_class() -> None:
    import grpc

    names = {code.name for code in grpc.StatusCode} - {"OK"}
    assert names == errors.BY_CODE.keys()


@pytest.mark.parametrize(
    ("code", "retry_after", "again"),
    [
        ("UNAVAILABLE", None, True),
        ("DEADLINE_EXCEEDED", None, True),
        ("RESOURCE_EXHAUSTED", 0.0, True),
        ("ABORTED", 0.001, True),
        ("RESOURCE_EXHAUSTED", None, False),
        ("ABORTED", None, False),
        ("UNAVAILABLE", 31.0, False),
        ("INTERNAL", None, False),
        ("UNKNOWN", None, False),
        ("INVALID_ARGUMENT", None, False),
        ("CANCELLED", None, False),
    ],
)
def test_only_what_may_help_is_tried_again(
    code: str, retry_after: float | None, again: bool
) -> None:
    attempts = Attempts(NO_WAIT, repeatable=True, timeout=60)
    assert (attempts.wait_after(failed(code, retry_after)) is not None) == again
    assert Attempts(NO_WAIT, repeatable=False, timeout=60).wait_after(failed(code)) is None
    assert Attempts(NO_RETRIES, repeatable=True, timeout=60).wait_after(failed(code)) is None


def test_tries_are_counted_and_end_with_the_deadline() -> None:
    attempts = Attempts(Retries(attempts_max=3, wait_first=0.001), repeatable=True, timeout=None)
    assert attempts.remaining() is None
    waits = [attempts.wait_after(failed("UNAVAILABLE")) for _ in range(3)]
    assert [wait is None for wait in waits] == [False, False, True]
    assert attempts.count == 3
    short = Attempts(Retries(wait_first=1, wait_max=1, jitter=0), repeatable=True, timeout=0.5)
    assert 0 < (short.remaining() or 0) <= 0.5
    assert short.wait_after(failed("UNAVAILABLE")) is None
    over = Attempts(NO_WAIT, repeatable=True, timeout=0.0)
    assert over.remaining() == 0.0


def test_waits_double_up_to_their_end_with_a_share_of_chance() -> None:
    retries = Retries(wait_first=1, wait_max=10, jitter=0.5)
    for attempt, whole in ((1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (99, 10)):
        assert all(whole / 2 <= retries.backoff(attempt) <= whole for _ in range(50))
    attempts = Attempts(retries, repeatable=True, timeout=None)
    assert attempts.wait_after(failed("UNAVAILABLE", 7.0)) == 7.0


def test_a_request_gets_an_id_once_and_stays_as_it_is() -> None:
    request = CreateChargeRequest(org_id="acme")
    first, second = (calls.prepare(charge._CREATE_CHARGE, request) for _ in range(2))
    assert request.request_id == ""
    assert first.request_id != second.request_id
    assert CreateChargeRequest.parse(first.payload).request_id == first.request_id
    named = CreateChargeRequest(request_id="mine")
    assert calls.prepare(charge._CREATE_CHARGE, named).request_id == "mine"
    assert calls.prepare(charge._GET_CHARGE, GetChargeRequest()).request_id == ""


def test_what_cannot_be_sent_is_refused_before() -> None:
    wrong: Any = GetChargeRequest()
    with pytest.raises(TypeError, match="takes CreateChargeRequest, not GetChargeRequest"):
        calls.prepare(charge._CREATE_CHARGE, wrong)
    large = IngestEventsRequest(events=[UsageEvent(unreadable="x" * 2**24)])
    with pytest.raises(MessageTooLarge, match="split it"):
        calls.prepare(metering._INGEST_EVENTS, large)
    odd: Any = 5
    with pytest.raises(FieldMisfit):
        calls.prepare(charge._CREATE_CHARGE, CreateChargeRequest(org_id=odd))


def test_what_tells_calls_apart_by_their_time_is_not_repeatable() -> None:
    assert not contract_monitor._RECORD_VIOLATIONS.repeatable
    assert metering._INGEST_EVENTS.repeatable
    assert charge._CREATE_CHARGE.repeatable


def test_a_page_that_names_itself_ends_the_reading() -> None:
    from payments_sdk.payments.billing.v1 import Charge, ListChargesRequest, ListChargesResponse

    def page(_: ListChargesRequest) -> ListChargesResponse:
        return ListChargesResponse(charges=[Charge()], next_page_token="again")

    read = items(page, ListChargesRequest(), "charges", BY_TOKEN)
    with pytest.raises(PagesDoNotEnd):
        list(read)


@pytest.mark.parametrize(
    "wrong",
    [
        {"address": "localhost"},
        {"address": "https://localhost:7443"},
        {"address": "localhost:0"},
        {"address": "localhost:99999"},
        {"address": ":7443"},
        {"address": "a b:7443"},
        {"api_key": "two\nlines"},
        {"api_key": "x" * 300},
        {"timeout": 0},
        {"metadata": {"Authorization": "Bearer x"}},
    ],
    ids=repr,
)
def test_odd_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Client(**wrong)


def test_settings_come_from_the_environment_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOLLMESH_ADDRESS", raising=False)
    monkeypatch.delenv("TOLLMESH_API_KEY", raising=False)
    assert Settings.of().address == "127.0.0.1:7443"
    assert Settings.of().headers() == ()
    monkeypatch.setenv("TOLLMESH_ADDRESS", "mesh.internal:443")
    monkeypatch.setenv("TOLLMESH_API_KEY", "tmk_secret")
    found = Settings.of(metadata={"X-Team": "a"}, tls=True)
    assert (found.address, found.tls) == ("mesh.internal:443", Tls())
    assert found.headers() == (("authorization", "Bearer tmk_secret"), ("x-team", "a"))
    assert Settings.of("[::1]:7443", "", tls=False).headers() == ()
    assert "tmk_secret" not in repr(found)
    with pytest.raises(ConfigurationError):
        Tls(private_key=b"key")
    for values in ({"attempts_max": 0}, {"wait_first": 2, "wait_max": 1}, {"jitter": 2}):
        with pytest.raises(ConfigurationError):
            Retries(**values)


def test_services_are_found_by_name_and_closed_with_the_client() -> None:
    with Client("127.0.0.1:1", "key", retries=NO_RETRIES, timeout=5) as client:
        assert isinstance(client.charge, ChargeService)
        assert client.charge is client.charge
        started = time.monotonic()
        with pytest.raises(errors.Unavailable) as refused:
            client.charge.create_charge(CreateChargeRequest(org_id="acme"))
        assert time.monotonic() - started < 5
        assert len(refused.value.request_id) == 36
    with pytest.raises(errors.ClientClosed):
        client.charge.create_charge(CreateChargeRequest())
