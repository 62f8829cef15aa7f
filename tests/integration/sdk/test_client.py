"""Both clients over a real connection: key, tries, deadlines, pages, streams, TLS, errors."""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from payments_sdk.checked import FieldMisfit
from payments_sdk.google.protobuf import Any as Packed
from payments_sdk.google.rpc import ErrorInfo, RetryInfo, Status
from payments_sdk.payments.billing.v1 import (
    Charge,
    CreateChargeRequest,
    CreateChargeResponse,
    ListChargesRequest,
    ListChargesResponse,
)
from payments_sdk.payments.contracts.v1 import RecordViolationsRequest
from payments_sdk.payments.events.v1 import (
    Event,
    ListEventsRequest,
    ListEventsResponse,
    TailEventsRequest,
    TailEventsResponse,
)
from payments_sdk.payments.metering.v1 import (
    IngestEventsRequest,
    IngestEventsResponse,
    StreamEventsRequest,
    StreamEventsResponse,
    UsageEvent,
)
from tollmesh_client import (
    AsyncClient,
    Client,
    DeadlineExceeded,
    EventsUnsent,
    FailedPrecondition,
    IngestOptions,
    ResourceExhausted,
    Retries,
    Tls,
    Unavailable,
    UsageIngester,
)

from tests.support.sdk.scripted import Fault, Script, serving

CHARGED = bytes(CreateChargeResponse(charge=Charge(charge_id="chg_1")))
AWAY = Fault(grpc.StatusCode.UNAVAILABLE)
QUICK = Retries(wait_first=0.001, wait_max=0.002)
BOTH = pytest.mark.parametrize("kind", ["waits", "awaits"])


def busy(seconds: float) -> Fault:
    delay = RetryInfo(retry_delay=datetime.timedelta(seconds=seconds))
    info = ErrorInfo(reason="OVERLOADED", domain="tollmesh.dev", metadata={"limit": "1"})
    details = [
        Packed(type_url=f"type.googleapis.com/google.rpc.{type(one).__name__}", value=bytes(one))
        for one in (delay, info)
    ]
    return Fault(grpc.StatusCode.RESOURCE_EXHAUSTED, bytes(Status(details=details)))


async def call(
    kind: str, address: str, service: str, method: str, request: Any, **given: Any
) -> Any:
    """Call a method by one of the two clients; of a stream or pages all items."""
    timeout = given.pop("within", None)
    options = {"retries": QUICK, **given}
    if kind == "waits":

        def waits() -> Any:
            with Client(address, "tmk_1", **options) as client:
                found = getattr(getattr(client, service), method)(request, timeout=timeout)
                return list(found) if isinstance(found, Iterator) else found

        return await asyncio.to_thread(waits)
    async with AsyncClient(address, "tmk_1", **options) as client:
        found = getattr(getattr(client, service), method)(request, timeout=timeout)
        if isinstance(found, AsyncIterator):
            return [item async for item in found]
        return await found


@BOTH
async def test_a_call_is_made_again_with_the_same_request_id(kind: str) -> None:
    script = Script([AWAY, busy(0.001), CHARGED])
    with serving(script) as address:
        request = CreateChargeRequest(org_id="acme")
        answer = await call(kind, address, "charge", "create_charge", request)
    assert answer.charge.charge_id == "chg_1"
    ids = {CreateChargeRequest.parse(payload).request_id for payload in script.payloads}
    assert (len(script.payloads), len(ids)) == (3, 1)
    assert len(ids.pop()) == 36
    assert {headers["authorization"] for headers in script.headers} == {"Bearer tmk_1"}
    assert script.headers[0]["user-agent"].startswith("tollmesh-client/")


@BOTH
async def test_errors_are_typed_and_tell_the_tries(kind: str) -> None:
    script = Script([AWAY])
    with serving(script) as address:
        request = CreateChargeRequest(request_id="mine")
        with pytest.raises(Unavailable) as away:
            await call(kind, address, "charge", "create_charge", request)
        assert (away.value.attempts, away.value.request_id) == (5, "mine")
        assert (away.value.call_id, len(script.payloads)) == ("call-1", 5)
        script.answers = [Fault(grpc.StatusCode.FAILED_PRECONDITION)]
        with pytest.raises(FailedPrecondition) as refused:
            await call(kind, address, "charge", "create_charge", request)
        assert (refused.value.attempts, refused.value.message) == (1, "it is FAILED_PRECONDITION")
        script.answers = [busy(3600)]  # longer than a caller should be kept
        with pytest.raises(ResourceExhausted) as later:
            await call(kind, address, "charge", "create_charge", request)
        assert (later.value.attempts, later.value.retry_after) == (1, 3600)
        assert (later.value.reason, later.value.metadata) == ("OVERLOADED", {"limit": "1"})
        # Not repeatable: it would be counted twice.
        script.answers = [AWAY]
        with pytest.raises(Unavailable) as once:
            await call(
                kind, address, "contract_monitor", "record_violations", RecordViolationsRequest()
            )
        assert once.value.attempts == 1


@BOTH
async def test_a_deadline_holds_for_all_tries_together(kind: str) -> None:
    script = Script([CHARGED])
    script.hold.clear()
    with serving(script) as address:
        started = time.monotonic()
        for given in ({"timeout": 0.3}, {"within": 0.3}):
            with pytest.raises(DeadlineExceeded):
                await call(kind, address, "charge", "create_charge", CreateChargeRequest(), **given)
        assert 0.6 <= time.monotonic() - started < 30
        assert script.ended.wait(60)


@BOTH
async def test_pages_are_read_to_their_end(kind: str) -> None:
    def charges(payload: bytes) -> bytes:
        asked = ListChargesRequest.parse(payload)
        assert asked.org_id == "acme"
        page = int(asked.page_token or "0")
        found = [Charge(charge_id=f"chg_{page}{number}") for number in range(2)]
        return bytes(
            ListChargesResponse(charges=found, next_page_token=str(page + 1) if page < 2 else "")
        )

    def events(payload: bytes) -> bytes:
        after = int(ListEventsRequest.parse(payload).after or "0")
        found = [Event(id=str(after))] if after < 3 else []
        return bytes(ListEventsResponse(events=found, next_cursor=str(min(after + 1, 3))))

    script = Script([charges])
    with serving(script) as address:
        request = ListChargesRequest(org_id="acme")
        found = await call(kind, address, "charge", "all_charges", request)
        assert [one.charge_id for one in found] == [
            f"chg_{page}{number}" for page in range(3) for number in range(2)
        ]
        script.answers = [AWAY, events]
        found = await call(kind, address, "event", "all_events", ListEventsRequest())
        assert [one.id for one in found] == ["0", "1", "2"]


@BOTH
async def test_a_stream_gives_what_it_has_and_then_its_error(kind: str) -> None:
    told = [bytes(TailEventsResponse(cursor=str(number))) for number in range(3)]
    script = Script([told, [*told, AWAY]])
    with serving(script) as address:
        found = await call(kind, address, "event", "tail_events", TailEventsRequest())
        assert [one.cursor for one in found] == ["0", "1", "2"]
        with pytest.raises(Unavailable):
            await call(kind, address, "event", "tail_events", TailEventsRequest())


async def test_a_stream_ends_when_nobody_reads_it_on() -> None:
    told = bytes(TailEventsResponse(cursor="1"))
    script = Script([[told] * 1000])
    with serving(script) as address, Client(address) as client:
        tail = client.event.tail_events(TailEventsRequest())
        assert (await asyncio.to_thread(next, tail)).cursor == "1"
        tail.close()  # type: ignore[attr-defined] # it is a generator
        assert await asyncio.to_thread(script.ended.wait, 60)


async def test_both_sides_stream_and_a_misfit_is_raised() -> None:
    def answer(payload: bytes) -> bytes:
        batch = StreamEventsRequest.parse(payload).batch
        assert batch is not None
        return bytes(StreamEventsResponse(result=IngestEventsResponse(accepted=len(batch.events))))

    def batches(*sizes: Any) -> Iterator[StreamEventsRequest]:
        for size in sizes:
            events = [UsageEvent(request_id="r")] * size if size else [UsageEvent(sku=size)]
            yield StreamEventsRequest(batch=IngestEventsRequest(events=events))

    async def awaited(*sizes: Any) -> AsyncIterator[StreamEventsRequest]:
        for one in batches(*sizes):
            yield one

    with serving(Script([answer])) as address:
        with Client(address) as client:
            stream = client.metering.stream_events
            got = await asyncio.to_thread(lambda: list(stream(batches(3, 1, 2))))
            assert [one.result.accepted for one in got if one.result] == [3, 1, 2]
            with pytest.raises(FieldMisfit):
                await asyncio.to_thread(lambda: list(stream(batches(3, None))))
        async with AsyncClient(address) as other:
            more = [one async for one in other.metering.stream_events(awaited(2, 5))]
            assert [one.result.accepted for one in more if one.result] == [2, 5]
            with pytest.raises(FieldMisfit):
                [one async for one in other.metering.stream_events(awaited(None))]


@BOTH
async def test_tls_trusts_whom_it_is_told_to(kind: str) -> None:
    key, certificate = certificate_of("mesh.internal")
    script = Script([CHARGED])
    with serving(script, grpc.ssl_server_credentials([(key, certificate)])) as address:
        tls = Tls(root_certificates=certificate, server_name="mesh.internal")
        answer = await call(
            kind, address, "charge", "create_charge", CreateChargeRequest(), tls=tls
        )
        assert answer.charge.charge_id == "chg_1"
        for other in (True, False):
            with pytest.raises(Unavailable):
                await call(
                    kind,
                    address,
                    *("charge", "create_charge", CreateChargeRequest()),
                    tls=other,
                    retries=Retries(attempts_max=1),
                )
    assert len(script.payloads) == 1


def test_an_ingester_that_is_closed_leaves_a_call_that_hangs() -> None:
    script = Script([b""])
    script.hold.clear()
    with serving(script) as address, Client(address) as client:
        options = IngestOptions(batch_seconds=0.001, call_seconds=3600)
        ingester = UsageIngester(client, options)
        ingester.add(UsageEvent(sku="tokens"))
        with pytest.raises(EventsUnsent):
            ingester.close(0.2)
        assert script.ended.wait(60)


def certificate_of(name: str) -> tuple[bytes, bytes]:
    """Make a key and a certificate that it signed itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return private, certificate.public_bytes(serialization.Encoding.PEM)
