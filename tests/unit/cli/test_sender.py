"""What the sender does when a stream breaks, against a mesh that breaks them on purpose."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from payments.metering.v1 import metering_pb2, metering_service_pb2
from payments.type.v1 import type_pb2

from services.cli import sender
from services.cli.errors import CliError
from services.cli.readers import GoodRow
from services.runtime.edge.weight import MESSAGE_BYTES_MAX

_request = sender._request


def _weight(batch: list[GoodRow]) -> int:
    return _request(batch).ByteSize()


class Broken(grpc.RpcError):
    """What gRPC raises when the connection is gone."""

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE


class Mesh:
    """Answers every request of a stream until the stream is told to break; reads in a thread, as gRPC does."""

    def __init__(self, *answers_before_break: int, breaks: bool = True) -> None:
        self.stored: list[str] = []
        self.streams = 0
        self.broken = threading.Event()
        self._breaks = list(answers_before_break)
        self._ends_with = Broken if breaks else None

    def stub(self, _: object) -> Mesh:
        return self

    @property
    def metadata(self) -> tuple[()]:
        return ()

    def explain(self, error: grpc.RpcError) -> CliError:
        return CliError("gone")

    def StreamEvents(  # noqa: N802 - the stub's name
        self, requests: Iterator[Any], metadata: object
    ) -> Iterator[metering_service_pb2.StreamEventsResponse]:
        self.streams += 1
        read: queue.Queue[Any] = queue.Queue()

        def consume() -> None:
            for request in requests:
                read.put(request)
            read.put(None)

        threading.Thread(target=consume, daemon=True).start()
        answers = self._breaks.pop(0) if self._breaks else None
        while answers is None or answers > 0:
            request = read.get(timeout=10)
            if request is None:
                return
            ids = [event.request_id for event in request.batch.events]
            self.stored += ids
            answers = None if answers is None else answers - 1
            yield metering_service_pb2.StreamEventsResponse(
                result=metering_service_pb2.IngestEventsResponse(accepted=len(ids))
            )
        self.broken.set()
        if self._ends_with is not None:
            raise self._ends_with


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "BATCH_EVENTS", 2)
    monkeypatch.setattr("services.cli.sender.time.sleep", lambda _: None)


def row(number: int) -> GoodRow:
    return GoodRow(number, metering_pb2.UsageEvent(request_id=str(number)))


def send(mesh: Any, rows: Iterator[GoodRow]) -> sender.Totals:
    totals = sender.Totals()
    sender.Sender(mesh).send(rows, totals)
    return totals


def test_a_stream_that_breaks_while_the_source_is_read_loses_no_row() -> None:
    mesh = Mesh(1)

    def slow() -> Iterator[GoodRow]:
        yield from map(row, range(2))
        # The thread of the first stream is in here when the stream breaks.
        assert mesh.broken.wait(10)
        yield from map(row, range(2, 9))

    totals = send(mesh, slow())
    assert sorted(map(int, mesh.stored)) == list(range(9))
    assert (totals.accepted, mesh.streams) == (9, 2)


def test_what_was_sent_and_not_answered_is_sent_again() -> None:
    mesh = Mesh(1, 2)
    totals = send(mesh, map(row, range(41)))
    assert sorted(map(int, mesh.stored)) == list(range(41))
    assert totals.accepted == 41
    assert mesh.streams == 3


def test_a_stream_that_ends_in_good_order_while_the_source_is_read_loses_no_row() -> None:
    mesh = Mesh(1, breaks=False)

    def slow() -> Iterator[GoodRow]:
        yield from map(row, range(2))
        assert mesh.broken.wait(10)
        yield from map(row, range(2, 9))

    assert send(mesh, slow()).accepted == 9
    assert sorted(map(int, mesh.stored)) == list(range(9))
    assert mesh.streams == 2


def test_streams_may_break_for_ever_as_long_as_they_bring_something() -> None:
    mesh = Mesh(*[1] * 20)
    assert send(mesh, map(row, range(60))).accepted == 60


def test_a_mesh_that_stays_away_is_given_up() -> None:
    mesh = Mesh(*[0] * 100)
    with pytest.raises(CliError, match="gone"):
        send(mesh, map(row, range(3)))
    assert mesh.streams == sender.RECONNECTS_MAX + 1


def test_a_reader_that_fails_after_a_break_is_not_taken_for_the_end() -> None:
    mesh = Mesh(1)

    def truncated() -> Iterator[GoodRow]:
        yield from map(row, range(2))
        assert mesh.broken.wait(10)
        raise OSError("the file ends in the middle")

    with pytest.raises(OSError, match="in the middle"):
        send(mesh, truncated())


def test_what_was_read_before_the_reader_failed_is_stored() -> None:
    mesh = Mesh()

    def truncated() -> Iterator[GoodRow]:
        yield from map(row, range(5))  # two batches and a half
        raise CliError("the file ends in the middle")

    with pytest.raises(CliError, match="in the middle"):
        send(mesh, truncated())
    assert sorted(map(int, mesh.stored)) == list(range(5))


def large(number: int, weight: int) -> GoodRow:
    event = metering_pb2.UsageEvent(request_id=str(number), metadata={"label": "x" * weight})
    return GoodRow(number, event)


def test_batches_are_cut_by_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """2,100 rows with long labels: no call comes near the 16 MiB that a message may have."""
    monkeypatch.setattr(sender, "BATCH_EVENTS", 2_000)
    weights: list[int] = []

    def weighed(batch: list[GoodRow]) -> metering_service_pb2.StreamEventsRequest:
        weights.append(_weight(batch))
        return _request(batch)

    monkeypatch.setattr(sender, "_request", weighed)
    mesh = Mesh()
    assert send(mesh, (large(n, 9_000) for n in range(2_100))).accepted == 2_100
    assert len(weights) == 5
    assert max(weights) <= sender.BATCH_BYTES < MESSAGE_BYTES_MAX / 2


def test_a_row_that_no_call_carries_is_named_and_costs_no_other() -> None:
    mesh = Mesh()
    rows = [large(1, 10), large(2, sender.BATCH_BYTES), large(3, 10)]
    totals = send(mesh, iter(rows))
    assert (totals.accepted, totals.malformed, mesh.stored) == (2, 1, ["1", "3"])
    assert [problem.row for problem in totals.problems] == [2]
    assert "more than fits into a call" in totals.problems[0].problem


# ---- Reasons


def test_rows_that_fail_alike_are_one_reason_with_a_count_and_examples() -> None:
    totals = sender.Totals()
    for row in range(1, 501):
        totals.note(row, f"r-{row}: EVENT_TOO_OLD: is of 1999", "EVENT_TOO_OLD")
        totals.note(row, f"event_time: 'noon {row}' is not a time", "")
        totals.note(row, f"has {row} columns, but the header has 6", "")
    assert {name: each.count for name, each in totals.reasons.items()} == {
        "EVENT_TOO_OLD": 500,
        "MALFORMED: event_time: … is not a time": 500,
        "MALFORMED: has … columns, but the header has …": 500,
    }
    assert [each.row for each in totals.reasons["EVENT_TOO_OLD"].examples] == [1, 2, 3]
    assert len(totals.problems) == sender.PROBLEMS_KEPT


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        ("has bytes that aren't UTF-8", "has bytes that aren't UTF-8"),
        ("the row isn't 'x', and doesn't end", "the row isn't …, and doesn't end"),
        (
            "event_time: 'noon' is not a time like 2026-01-15T12:00:00Z",
            "event_time: … is not a time like 2026-01-15T12:00:00Z",
        ),
        (
            "event_time is a number: write it like 2026-01-15T12:00:00Z",
            "event_time is a number: write it like 2026-01-15T12:00:00Z",
        ),
        ('source: "o\'clock" is not one of API', "source: … is not one of API"),
        (r"source: 'it\'s' is not one of API", "source: … is not one of API"),
        (
            "metadata.tier2 differs between metadata and column 'tier 2'",
            "metadata.tier2 differs between metadata and column 'tier 2'",
        ),
        (
            "is not valid JSON: a colon is expected at line 7, column 12",
            "is not valid JSON: a colon is expected at line …, column …",
        ),
        (
            "is not valid JSON: the key 'a' appears twice in one object",
            "is not valid JSON: the key … appears twice in one object",
        ),
        ("is longer than 2,097,152 characters", "is longer than 2,097,152 characters"),
        (
            "has 4,567,890 bytes, more than fits into a call",
            "has … bytes, more than fits into a call",
        ),
        (
            "quantity is of type decimal128(38, 9), which cannot be used here",
            "quantity is of type decimal128(38, 9), which cannot be used here",
        ),
        ("is -1.5, and 0 is the least", "is …, and … is the least"),
    ],
)
def test_only_values_are_masked_in_a_reason(problem: str, reason: str) -> None:
    totals = sender.Totals()
    totals.note(1, problem)
    assert [*totals.reasons] == [f"MALFORMED: {reason}"]
    assert totals.problems[0].problem == problem


def test_reasons_are_bounded() -> None:
    totals = sender.Totals()
    for number in range(10 * sender.REASONS_MAX):
        totals.note(number, "wrong", f"REASON_{'I' * number}")
    assert len(totals.reasons) == sender.REASONS_MAX + 1
    assert totals.reasons[sender.OTHER].count == 9 * sender.REASONS_MAX


def test_what_the_mesh_holds_is_counted_and_no_problem() -> None:
    totals = sender.Totals()
    result = metering_service_pb2.IngestEventsResponse(enqueued=2, receipt_id="rcp_1")
    for index in range(2):
        result.problems.add(index=index, outcome=type_pb2.OUTCOME_ENQUEUED, reason="EVENT_ENQUEUED")
    for _ in range(sender.HELD_KEPT + 1):
        sender._add(totals, [row(0), row(1)], result)
    assert (totals.enqueued, totals.sent) == (202, 202)
    assert totals.complete
    assert not totals.reasons
    assert totals.held == ["rcp_1"] * sender.HELD_KEPT
