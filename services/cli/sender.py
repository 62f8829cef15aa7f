"""Sends usage events in batches over one stream, several in flight, and adds up the verdicts.

Events carry their own ids, so a batch whose answer got lost is simply sent again: what was stored answers
DUPLICATE.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

import grpc
from payments.metering.v1 import metering_service_pb2, metering_service_pb2_grpc
from payments.type.v1 import type_pb2

from services.cli.client import Client
from services.cli.readers import BadRow, GoodRow

BATCH_EVENTS = 2_000
BATCHES_IN_FLIGHT = 6
RECONNECTS_MAX = 5
PROBLEMS_KEPT = 100


@dataclass(slots=True)
class Totals:
    """What became of the rows of a file.

    Attributes:
        accepted, duplicate, conflict, rejected: events by verdict.
        malformed: rows that were no events and were not sent.
        problems: the first hundred rows that were neither accepted nor duplicates, each with what is wrong.
        seconds: time from the first to the last answer.
    """

    accepted: int = 0
    duplicate: int = 0
    conflict: int = 0
    rejected: int = 0
    malformed: int = 0
    problems: list[BadRow] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def sent(self) -> int:
        """Events that were answered."""
        return self.accepted + self.duplicate + self.conflict + self.rejected

    @property
    def complete(self) -> bool:
        """True when every row is stored."""
        return not (self.conflict or self.rejected or self.malformed)

    def note(self, row: int, problem: str) -> None:
        """Keep a problem, up to a bound."""
        if len(self.problems) < PROBLEMS_KEPT:
            self.problems.append(BadRow(row, problem))


_Batch = list[GoodRow]


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

    def send(self, rows: Iterable[GoodRow | BadRow]) -> Totals:
        """Send every row; returns when all are answered.

        Raises:
            CliError: the mesh refused the stream or stayed away; what was answered before is stored.
        """
        totals = Totals()
        started = time.perf_counter()
        source = _batches(rows, totals)
        unanswered: deque[_Batch] = deque()
        for attempt in range(RECONNECTS_MAX + 1):
            try:
                self._stream(source, unanswered, totals)
                break
            except grpc.RpcError as error:
                again = error.code() == grpc.StatusCode.UNAVAILABLE and attempt < RECONNECTS_MAX
                if not again:
                    raise self._client.explain(error) from error
                time.sleep(0.2 * 2**attempt)
        totals.seconds = time.perf_counter() - started
        return totals

    def _stream(self, source: Iterator[_Batch], unanswered: deque[_Batch], totals: Totals) -> None:
        slots = threading.Semaphore(BATCHES_IN_FLIGHT)
        ended = threading.Event()
        failures: list[Exception] = []
        again = list(unanswered)
        unanswered.clear()

        def requests() -> Iterator[metering_service_pb2.StreamEventsRequest]:
            # Runs in a thread of gRPC's, which would swallow the reader's errors.
            try:
                for batch in _chain(again, source):
                    slots.acquire()
                    unanswered.append(batch)
                    if ended.is_set():
                        return
                    yield _request(batch)
            except Exception as error:  # handed over to the caller's thread below
                failures.append(error)

        try:
            for answer in self._stub.StreamEvents(requests(), metadata=self._client.metadata):
                batch = unanswered.popleft()
                slots.release()
                _add(totals, batch, answer.result)
                self._progress(totals.sent)
        finally:
            ended.set()
            slots.release()
        if failures:
            raise failures[0]


def _request(batch: _Batch) -> metering_service_pb2.StreamEventsRequest:
    events = [row.event for row in batch]
    return metering_service_pb2.StreamEventsRequest(
        batch=metering_service_pb2.IngestEventsRequest(events=events)
    )


def _chain(again: list[_Batch], source: Iterator[_Batch]) -> Iterator[_Batch]:
    yield from again
    yield from source


def _batches(rows: Iterable[GoodRow | BadRow], totals: Totals) -> Iterator[_Batch]:
    good = _good(rows, totals)
    while batch := list(islice(good, BATCH_EVENTS)):
        yield batch


def _good(rows: Iterable[GoodRow | BadRow], totals: Totals) -> Iterator[GoodRow]:
    for row in rows:
        if isinstance(row, GoodRow):
            yield row
        else:
            totals.malformed += 1
            totals.note(row.row, row.problem)


def _add(totals: Totals, batch: _Batch, result: metering_service_pb2.IngestEventsResponse) -> None:
    totals.accepted += result.accepted
    totals.duplicate += result.duplicate
    totals.conflict += result.conflict
    totals.rejected += result.rejected
    for problem in result.problems:
        if problem.outcome != type_pb2.OUTCOME_DUPLICATE:
            text = f"{problem.request_id}: {problem.reason}: {problem.message}"
            totals.note(batch[problem.index].row, text)
