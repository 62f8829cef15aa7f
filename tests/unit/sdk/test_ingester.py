"""The ingester keeps each event until there is a verdict on it, whatever the mesh does."""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from payments_sdk.google.protobuf import Any as Packed
from payments_sdk.google.rpc import ErrorInfo, Status
from payments_sdk.payments.metering.v1 import (
    EventProblem,
    IngestEventsRequest,
    IngestEventsResponse,
    UsageEvent,
)
from payments_sdk.payments.type.v1 import Outcome
from tollmesh_client import (
    AsyncClient,
    AsyncUsageIngester,
    ConfigurationError,
    EventsUnsent,
    EventTooLarge,
    IngesterClosed,
    IngestOptions,
    QueueFull,
    SpoolFull,
    SpoolOptions,
    UsageIngester,
    Verdict,
)
from tollmesh_client.errors import IngestError
from tollmesh_client.forks import Owner

SECONDS = 60.0
Answer = Callable[[list[UsageEvent]], IngestEventsResponse]


class Failed(grpc.RpcError):
    """A call that gRPC ended with a code."""

    def __init__(self, code: grpc.StatusCode, reason: str = "") -> None:
        info = ErrorInfo(reason=reason, domain="tollmesh.dev")
        packed = Packed(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=bytes(info))
        self._code, self._details = code, bytes(Status(details=[packed]))

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return f"it is {self._code.name}"

    def trailing_metadata(self) -> Any:
        return (("grpc-status-details-bin", self._details),)


class Mesh:
    """Stands for a client: stores events by id as a mesh does, unless told to fail.

    Attributes:
        away: while set, no call is answered.
        stored: what was accepted, by request_id.
    """

    def __init__(self) -> None:
        self.transport = self
        self.owner = Owner("client")
        self.away = threading.Event()
        self.stored: dict[str, UsageEvent] = {}
        self.sizes: list[int] = []
        self.fails: list[Exception] = []
        self.refuses = ""
        self._state = threading.Lock()

    def begin(self, path: str, payload: bytes, timeout: float | None) -> "Future[bytes]":
        assert path == "/payments.metering.v1.MeteringService/IngestEvents"
        answered: Future[bytes] = Future()
        try:
            answered.set_result(bytes(self._answer(IngestEventsRequest.parse(payload).events)))
        except grpc.RpcError as error:
            answered.set_exception(error)
        return answered

    def _answer(self, events: list[UsageEvent]) -> IngestEventsResponse:
        with self._state:
            if self.away.is_set():
                raise Failed(grpc.StatusCode.UNAVAILABLE)
            if self.fails:
                raise self.fails.pop()
            if any(event.sku == "poison" for event in events):
                raise Failed(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
            self.sizes.append(len(events))
            problems = [
                EventProblem(
                    index=index,
                    request_id=event.request_id,
                    outcome=outcome,
                    reason="" if outcome is Outcome.DUPLICATE else "SAID",
                )
                for index, event in enumerate(events)
                if (outcome := self._verdict(event)) is not Outcome.ACCEPTED
            ]
            count = [problem.outcome for problem in problems].count
            return IngestEventsResponse(
                accepted=len(events) - len(problems),
                duplicate=count(Outcome.DUPLICATE),
                conflict=count(Outcome.CONFLICT),
                rejected=count(Outcome.REJECTED),
                enqueued=count(Outcome.ENQUEUED),
                receipt_id="rcp_1",
                problems=problems,
            )

    def _verdict(self, event: UsageEvent) -> Outcome:
        if event.sku == "unknown":
            return Outcome.REJECTED
        if event.sku == "held":
            return Outcome.ENQUEUED
        before = self.stored.setdefault(event.request_id, event)
        if before is event:
            return Outcome.ACCEPTED
        return Outcome.DUPLICATE if bytes(before) == bytes(event) else Outcome.CONFLICT


def events(first: int, count: int, **fields: Any) -> list[UsageEvent]:
    return [
        UsageEvent(request_id=f"r-{number}", **({"sku": "tokens", "quantity": "1"} | fields))
        for number in range(first, first + count)
    ]


def ids(first: int, count: int) -> set[str]:
    return {f"r-{number}" for number in range(first, first + count)}


def options(**given: Any) -> IngestOptions:
    quick = {"batch_seconds": 0.005, "wait_first": 0.001, "wait_max": 0.002, "batch_bytes": 1000}
    return IngestOptions(**(quick | given))


@contextmanager
def ingesting(
    mesh: Mesh, given: IngestOptions | None = None, **more: Any
) -> Iterator[UsageIngester]:
    client: Any = mesh
    ingester = UsageIngester(client, given or options(), **more)
    try:
        yield ingester
    finally:
        with suppress(EventsUnsent):
            ingester.close(0.0)


@pytest.fixture
def mesh() -> Mesh:
    return Mesh()


def test_events_leave_in_batches_of_rows_of_bytes_and_of_age(mesh: Mesh) -> None:
    with ingesting(mesh, options(batch_rows=10, batch_seconds=3600, in_flight=1)) as ingester:
        assert ingester.add_many(events(0, 30)) == [f"r-{number}" for number in range(30)]
        ingester.flush(SECONDS)
    assert mesh.sizes == [10, 10, 10]
    size = 25
    with ingesting(mesh, options(batch_bytes=3 * size, batch_seconds=3600)) as ingester:
        ingester.add_many(events(100, 7))
        ingester.flush(SECONDS)
    assert max(mesh.sizes[3:]) <= 3
    answered = threading.Event()
    with ingesting(mesh, on_receipt=lambda _: answered.set()) as ingester:
        ingester.add(events(200, 1)[0])
        assert answered.wait(SECONDS)  # nobody flushed it
    assert mesh.stored.keys() == ids(0, 30) | ids(100, 7) | ids(200, 1)
    with pytest.raises(IngesterClosed):
        ingester.add(events(0, 1)[0])


def test_an_event_without_id_is_given_one_and_stays_as_it_is(mesh: Mesh) -> None:
    event = UsageEvent(sku="tokens")
    with ingesting(mesh) as ingester:
        given = {ingester.add(event), *ingester.add_many([event, event])}
        ingester.flush(SECONDS)
    assert (len(given), event.request_id) == (3, "")
    assert mesh.stored.keys() == given


@pytest.mark.parametrize("spooled", [False, True], ids=["memory", "spool"])
def test_what_the_mesh_does_not_accept_is_told_event_by_event(
    mesh: Mesh, tmp_path: Path, spooled: bool
) -> None:
    told: list[Verdict] = []

    def tell(verdict: Verdict) -> None:
        told.append(verdict)
        raise RuntimeError("a callback may fail")

    spool = SpoolOptions(tmp_path) if spooled else None
    with ingesting(mesh, spool=spool, on_verdict=tell) as ingester:
        ingester.add_many(events(0, 3))
        ingester.flush(SECONDS)
        ingester.add_many(
            [*events(0, 1), *events(1, 1, quantity="2"), *events(3, 1, sku="unknown")]
        )
        ingester.add_many([*events(4, 4), *events(8, 1, sku="poison"), *events(9, 4)])
        ingester.flush(SECONDS)
        stats = ingester.stats
    by_id = {verdict.request_id: verdict for verdict in told}
    assert {request_id: verdict.outcome for request_id, verdict in by_id.items()} == {
        "r-0": "DUPLICATE",
        "r-1": "CONFLICT",
        "r-3": "REJECTED",
        "r-8": "FAILED",
    }
    assert (by_id["r-1"].reason, by_id["r-1"].event.quantity) == ("SAID", "2")
    assert (by_id["r-8"].reason, by_id["r-8"].message) == (
        "INVALID_FIELD",
        "it is INVALID_ARGUMENT",
    )
    assert mesh.stored.keys() == ids(0, 3) | ids(4, 4) | ids(9, 4)
    counts = (stats.accepted, stats.duplicate, stats.conflict, stats.rejected, stats.failed)
    assert (counts, stats.pending, stats.trouble) == ((11, 1, 1, 1, 1), 0, None)


def test_what_the_mesh_holds_is_delivered_and_has_no_verdict(mesh: Mesh) -> None:
    told: list[Verdict] = []
    receipts: list[Any] = []
    with ingesting(mesh, on_verdict=told.append, on_receipt=receipts.append) as ingester:
        ingester.add_many(events(0, 3, sku="held"))
        ingester.flush(SECONDS)
        stats = ingester.stats
    assert (stats.enqueued, stats.accepted, stats.pending, stats.trouble) == (3, 0, 0, None)
    assert sum(receipt.enqueued for receipt in receipts) == 3
    assert told == []


def test_without_a_callback_they_are_logged(mesh: Mesh, caplog: pytest.LogCaptureFixture) -> None:
    with ingesting(mesh) as ingester:
        ingester.add_many([*events(0, 1), *events(0, 1), *events(7, 1, sku="unknown")])
        ingester.flush(SECONDS)
    (record,) = caplog.records
    assert "usage event r-7 is not stored: REJECTED SAID" in record.getMessage()


@pytest.mark.parametrize(
    "code", ["UNAVAILABLE", "DEADLINE_EXCEEDED", "UNAUTHENTICATED", "INTERNAL", "UNIMPLEMENTED"]
)
def test_whatever_the_mesh_says_to_a_batch_it_is_sent_again(mesh: Mesh, code: str) -> None:
    mesh.fails = [Failed(grpc.StatusCode[code]), Failed(grpc.StatusCode[code])]
    troubles: list[Exception] = []
    with ingesting(mesh, on_trouble=troubles.append) as ingester:
        ingester.add_many(events(0, 5))
        ingester.flush(SECONDS)
        assert ingester.stats.failed_calls == 2
    assert mesh.stored.keys() == ids(0, 5)
    assert [str(error) for error in troubles] == [f"{code}: it is {code}"] * 2


def test_a_full_queue_raises_or_waits_as_chosen(mesh: Mesh) -> None:
    mesh.away.set()
    small = {"queue_rows": 20, "batch_rows": 10, "queue_bytes": 1000}
    with ingesting(mesh, options(when_full="raise", **small)) as ingester:
        ingester.add_many(events(0, 20))
        with pytest.raises(QueueFull, match="20 events"):
            ingester.add(events(20, 1)[0])
        with pytest.raises(EventsUnsent, match="20 events wait") as unsent:
            ingester.flush(0.01)
        assert unsent.value.pending == 20
        with pytest.raises(EventsUnsent):
            ingester.close(0.01)
    with ingesting(mesh, options(**small)) as ingester:
        ingester.add_many(events(0, 20))
        with pytest.raises(QueueFull):
            ingester.add(events(20, 1)[0], timeout=0.01)
        # Comes back while somebody waits for room.
        waiting = threading.Thread(target=ingester.add_many, args=(events(20, 50),))
        waiting.start()
        mesh.away.clear()
        waiting.join(SECONDS)
        ingester.flush(SECONDS)
    assert mesh.stored.keys() == ids(0, 70)


def test_a_spool_bridges_an_outage_and_the_end_of_the_process(mesh: Mesh, tmp_path: Path) -> None:
    mesh.away.set()
    spool = SpoolOptions(tmp_path, bytes_max=16_384)
    given = options(when_full="raise", batch_rows=50, in_flight=2)
    added = 0
    with ingesting(mesh, given, spool=spool) as ingester:
        with pytest.raises(SpoolFull):
            while True:
                ingester.add(events(added, 1)[0])
                added += 1
        assert ingester.close(0.0).pending == added
    assert added > 300
    with ingesting(mesh, given, spool=spool) as ingester:
        assert ingester.stats.pending == added
        mesh.away.clear()
        ingester.flush(SECONDS)
        ingester.add_many(events(added, 5))
        ingester.flush(SECONDS)
        assert ingester.stats.accepted == added + 5
    assert mesh.stored.keys() == ids(0, added + 5)
    assert list(tmp_path.glob("*.seg")) == []


def test_a_spool_that_is_damaged_while_it_runs_is_told_to_whoever_adds(
    mesh: Mesh, tmp_path: Path
) -> None:
    with ingesting(mesh, options(batch_seconds=3600), spool=SpoolOptions(tmp_path)) as ingester:
        ingester.add_many(events(0, 3))
        (segment,) = tmp_path.glob("*.seg")
        data = segment.read_bytes()
        segment.write_bytes(data[:-1] + b"!")
        with pytest.raises(IngestError, match="damaged at byte"):
            ingester.flush(SECONDS)
        with pytest.raises(IngestError, match="damaged at byte"):
            ingester.add(events(3, 1)[0])
        with pytest.raises(IngestError, match="damaged at byte"):
            ingester.close()


def test_too_large_an_event_is_refused_alone(mesh: Mesh) -> None:
    with ingesting(mesh, options(batch_bytes=100)) as ingester:
        with pytest.raises(EventTooLarge, match="a batch 100"):
            ingester.add(events(0, 1, org_id="x" * 100)[0])
        ingester.add(events(1, 1)[0])
        ingester.flush(SECONDS)
    assert mesh.stored.keys() == ids(1, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_rows": 10_001},
        {"batch_bytes": 16 * 1024 * 1024},
        {"batch_seconds": 0},
        {"in_flight": 0},
        {"when_full": "drop"},
        {"queue_rows": 1},
    ],
    ids=repr,
)
def test_odd_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        IngestOptions(**wrong)


def test_a_spool_without_room_for_batches_is_refused(mesh: Mesh, tmp_path: Path) -> None:
    client: Any = mesh
    with pytest.raises(ConfigurationError, match="bytes_max must be"):
        UsageIngester(client, spool=SpoolOptions(tmp_path, bytes_max=4096))


async def test_in_an_event_loop_only_the_task_that_adds_waits(
    mesh: Mesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client: Any = mesh
    monkeypatch.setattr("tollmesh_client.ingest_aio.Client.of", lambda _: _Closable(client))
    outer = AsyncClient("127.0.0.1:1", "key")
    kinds: Iterable[SpoolOptions | None] = (None, SpoolOptions(tmp_path, fsync="always"))
    for number, spool in enumerate(kinds):
        first = number * 100
        async with AsyncUsageIngester(
            outer, options(queue_rows=10, batch_rows=5), spool=spool
        ) as ingester:
            assert await ingester.add(events(first, 1)[0]) == f"r-{first}"
            await ingester.add_many(events(first + 1, 40))
            await ingester.flush(SECONDS)
            assert ingester.stats.accepted == 41
    mesh.away.set()
    full = options(queue_rows=10, batch_rows=5, when_full="raise")
    ingester = AsyncUsageIngester(outer, full)
    with pytest.raises(QueueFull):
        await ingester.add_many(events(500, 11))
    with pytest.raises(EventsUnsent):
        await ingester.close(0.0)
    await outer.close()
    assert mesh.stored.keys() == ids(0, 41) | ids(100, 41)


class _Closable:
    def __init__(self, mesh: Mesh) -> None:
        self.transport = mesh

    def close(self) -> None:
        """Nothing is open."""
