"""Sends usage events in batches over one stream, several in flight, and adds up the verdicts.

Events carry their own ids, so a batch whose answer got lost is simply sent again: what was stored answers
DUPLICATE.
"""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field

import grpc
from payments.metering.v1 import metering_service_pb2, metering_service_pb2_grpc
from payments.type.v1 import type_pb2

from services.cli.batches import CALL_BYTES_MAX, ITEM_BYTES, cut
from services.cli.client import Client
from services.cli.readers import BadRow, GoodRow

BATCH_EVENTS = 2_000
BATCH_BYTES = CALL_BYTES_MAX
BATCHES_IN_FLIGHT = 6
RECONNECTS_MAX = 5
PROBLEMS_KEPT = 100
HELD_KEPT = 100
EXAMPLES_KEPT = 3
# What is wrong with rows that are no events is told in words: those that differ in values only are one reason.
MALFORMED = "MALFORMED"
REASONS_MAX = 50
OTHER = "OTHER"
_QUOTED = r"(?<!\w)(?:'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")(?!\w)"
# Names of columns and of types, and limits, are words of the reason.
_WORDS = rf"column {_QUOTED}|of type .*, which|longer than [\d,]+"
# A text in quotes, or a number that stands alone: no apostrophe, and no part of UTF-8 or of a time that is an example.
_VALUE = re.compile(
    rf"(?P<words>{_WORDS})|{_QUOTED}|(?<![\w.,:-])-?\d+(?:[.,]\d+)*(?![\w-]|[.,:]\d)"
)
_REASON_CHARS_MAX = 120


@dataclass(slots=True)
class Reason:
    """Rows that were not stored for the same reason.

    Attributes:
        name: the service's reason; for a row that is no event, MALFORMED and what is wrong, without its values.
        count: how many.
        examples: the first three.
    """

    name: str
    count: int = 0
    examples: list[BadRow] = field(default_factory=list)


@dataclass(slots=True)
class Totals:
    """Counts and problems of the rows of a file.

    Attributes:
        accepted, duplicate, conflict, rejected: events by verdict.
        enqueued: events that the mesh holds until its database is back.
        malformed: rows that were no events and were not sent.
        held: receipts of the first hundred batches that it holds.
        problems: the first hundred rows that were neither accepted nor duplicates, each with what is wrong.
        reasons: all of those rows by reason; after fifty reasons the others count as one.
        seconds: time from the first to the last answer.
    """

    accepted: int = 0
    duplicate: int = 0
    conflict: int = 0
    rejected: int = 0
    enqueued: int = 0
    malformed: int = 0
    held: list[str] = field(default_factory=list)
    problems: list[BadRow] = field(default_factory=list)
    reasons: dict[str, Reason] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def sent(self) -> int:
        """Events that were answered."""
        return self.accepted + self.duplicate + self.conflict + self.rejected + self.enqueued

    @property
    def complete(self) -> bool:
        """True when every row is stored, or held to be stored."""
        return not (self.conflict or self.rejected or self.malformed)

    def note(self, row: int, problem: str, reason: str = "") -> None:
        """Count a problem, and keep it up to a bound."""
        found = BadRow(row, problem)
        if len(self.problems) < PROBLEMS_KEPT:
            self.problems.append(found)
        name = reason or f"{MALFORMED}: {_without_values(problem)[:_REASON_CHARS_MAX]}"
        if name not in self.reasons and len(self.reasons) >= REASONS_MAX:
            name = OTHER
        same = self.reasons.setdefault(name, Reason(name))
        same.count += 1
        if len(same.examples) < EXAMPLES_KEPT:
            same.examples.append(found)


def _without_values(problem: str) -> str:
    return _VALUE.sub(lambda found: found["words"] or "…", problem)


_Batch = list[GoodRow]


class _Source:
    """Batches for one stream after another: what a stream took and got no answer for is given back.

    A stream that broke may still be taking a batch in gRPC's thread. The next one waits for that thread: it would
    read the same rows beside it, or find nothing to send while the other still holds the last of them.

    Attributes:
        state: guards all that the threads share.
        failure: what the reader of the rows failed with; the end of the batches then.
    """

    def __init__(self, batches: Iterator[_Batch]) -> None:
        self._batches = batches
        self._again: deque[_Batch] = deque()
        self._unanswered = 0
        self._at_end = False
        self._taking = False
        self.state = threading.Condition()
        self.failure: Exception | None = None

    @property
    def exhausted(self) -> bool:
        """True when nothing is left to send and nothing waits for its answer."""
        with self.state:
            return self._at_end and not self._again and self._unanswered == 0

    def wait_until_nobody_takes(self) -> None:
        """Wait for the thread of a stream that has ended."""
        with self.state:
            self.state.wait_for(lambda: not self._taking)

    def begin(self) -> None:
        """Say that a thread is about to take a batch."""
        with self.state:
            self._taking = True

    def let_go(self) -> None:
        """Say that it keeps the batch that it took, or gave it back."""
        with self.state:
            self._taking = False
            self.state.notify_all()

    def take(self) -> _Batch | None:
        """Return the next batch; None at the end. Waits for the reader, whom one thread asks at a time."""
        with self.state:
            batch = self._again.popleft() if self._again else None
        if batch is None:
            batch = self._read()
        with self.state:
            self._at_end = batch is None
            self._unanswered += batch is not None
        return batch

    def _read(self) -> _Batch | None:
        try:
            return next(self._batches, None)
        except Exception as error:  # gRPC's thread would swallow it
            self.failure = error
            return None

    def done(self) -> None:
        """Say that a batch was answered."""
        with self.state:
            self._unanswered -= 1

    def give_back(self, batches: Collection[_Batch]) -> None:
        """Have batches sent by the next stream."""
        with self.state:
            self._again.extend(batches)
            self._unanswered -= len(batches)


class _Flight:
    """What one stream has sent and not got answered."""

    def __init__(self, source: _Source) -> None:
        self._source = source
        self._unanswered: deque[_Batch] = deque()
        self._slots = threading.Semaphore(BATCHES_IN_FLIGHT)
        self._ended = False

    def requests(self) -> Iterator[metering_service_pb2.StreamEventsRequest]:
        """Give requests while there is room for them; runs in a thread of gRPC's."""
        while (batch := self._next()) is not None:
            yield _request(batch)

    def _next(self) -> _Batch | None:
        """Take a batch; None at the end of the rows, or of this stream."""
        with self._source.state:
            if self._ended:
                return None
            self._source.begin()
        try:
            batch = self._source.take()
            return batch if batch is None or self._keep(batch) else None
        finally:
            self._source.let_go()

    def _keep(self, batch: _Batch) -> bool:
        """Wait for room to send a batch; give it back when the stream ended meanwhile."""
        self._slots.acquire()
        with self._source.state:
            if self._ended:
                self._source.give_back([batch])
            else:
                self._unanswered.append(batch)
            return not self._ended

    def answered(self) -> _Batch:
        """Return the batch that an answer is for: they come in order."""
        batch = self._unanswered.popleft()
        self._source.done()
        self._slots.release()
        return batch

    def end(self) -> None:
        """Take no more, and give back what got no answer."""
        with self._source.state:
            self._ended = True
            left = list(self._unanswered)
        self._slots.release()
        self._source.give_back(left)


class Sender:
    """Sends rows over a client.

    Args:
        client: the mesh.
        progress: called after each answered batch with the number of events answered so far.
    """

    def __init__(self, client: Client, progress: Callable[[int], None] = lambda _: None) -> None:
        self._client = client
        self._stub = client.stub(metering_service_pb2_grpc.MeteringServiceStub)
        self._progress = progress

    def send(self, rows: Iterable[GoodRow | BadRow], totals: Totals) -> None:
        """Send every row, and count what becomes of it; returns when all are answered.

        Raises:
            CliError: the mesh refused the stream or stayed away, or the rows could not be read to their end. What
                was answered before is stored, and counted in `totals`.
        """
        started = time.perf_counter()
        source = _Source(_batches(rows, totals))
        failed = 0
        while True:
            before = totals.sent
            error = self._stream(source, totals)
            if error is None:
                source.wait_until_nobody_takes()
                if source.exhausted:
                    break
            # Streams end now and then, as connections do: only those that bring nothing in a row are counted.
            failed = failed + 1 if totals.sent == before else 1
            if error is not None and (
                error.code() != grpc.StatusCode.UNAVAILABLE or failed > RECONNECTS_MAX
            ):
                raise self._client.explain(error) from error
            source.wait_until_nobody_takes()
            time.sleep(0.1 * 2 ** min(failed, RECONNECTS_MAX))
        totals.seconds = time.perf_counter() - started
        if source.failure is not None:
            raise source.failure

    def _stream(self, source: _Source, totals: Totals) -> grpc.RpcError | None:
        """Send what there is over one stream; returns what it broke with."""
        flight = _Flight(source)
        try:
            answers = self._stub.StreamEvents(flight.requests(), metadata=self._client.metadata)
            for answer in answers:
                _add(totals, flight.answered(), answer.result)
                self._progress(totals.sent)
        except grpc.RpcError as error:
            return error
        finally:
            flight.end()
        return None


def _request(batch: _Batch) -> metering_service_pb2.StreamEventsRequest:
    events = [row.event for row in batch]
    return metering_service_pb2.StreamEventsRequest(
        batch=metering_service_pb2.IngestEventsRequest(events=events)
    )


def _batches(rows: Iterable[GoodRow | BadRow], totals: Totals) -> Iterator[_Batch]:
    """Group the events; what was read before the reader failed is given before its failure is raised."""
    return cut(_good(rows, totals), lambda row: row.event.ByteSize(), BATCH_EVENTS, BATCH_BYTES)


def _good(rows: Iterable[GoodRow | BadRow], totals: Totals) -> Iterator[GoodRow]:
    for row in rows:
        problem = row.problem if isinstance(row, BadRow) else _too_large(row)
        if isinstance(row, GoodRow) and not problem:
            yield row
        else:
            totals.malformed += 1
            totals.note(row.row, problem)


def _too_large(row: GoodRow) -> str:
    weight = row.event.ByteSize()
    if weight <= BATCH_BYTES - ITEM_BYTES:
        return ""
    return f"has {weight:,} bytes, more than fits into a call"


def _add(totals: Totals, batch: _Batch, result: metering_service_pb2.IngestEventsResponse) -> None:
    totals.accepted += result.accepted
    totals.duplicate += result.duplicate
    totals.conflict += result.conflict
    totals.rejected += result.rejected
    totals.enqueued += result.enqueued
    if result.enqueued and len(totals.held) < HELD_KEPT:
        totals.held.append(result.receipt_id)
    for problem in result.problems:
        if problem.outcome not in (type_pb2.OUTCOME_DUPLICATE, type_pb2.OUTCOME_ENQUEUED):
            text = f"{problem.request_id}: {problem.reason}: {problem.message}"
            totals.note(batch[problem.index].row, text, problem.reason)
