"""Sends usage events in batches, in the background, each until the mesh has told its verdict."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Literal
from uuid import uuid4

import grpc
from payments_sdk.payments.metering.v1 import IngestEventsResponse, UsageEvent
from payments_sdk.payments.type.v1 import Outcome

from tollmesh_client import calls, forks, wire
from tollmesh_client.client import Client
from tollmesh_client.errors import (
    CallError,
    Cancelled,
    ConfigurationError,
    EventsUnsent,
    EventTooLarge,
    IngesterClosed,
    IngestError,
    QueueFull,
    TollmeshError,
    Verdict,
)
from tollmesh_client.queues import MemoryQueue, Queue
from tollmesh_client.retries import Retries
from tollmesh_client.settings import MESSAGE_BYTES_MAX
from tollmesh_client.spool import Place, Spool, SpoolOptions

WhenFull = Literal["block", "raise"]

PATH = "/payments.metering.v1.MeteringService/IngestEvents"
ROWS_MAX = 10_000
# Below the limit of a message; the rest of a request is its events alone.
BYTES_MAX = MESSAGE_BYTES_MAX - 1024 * 1024
# Events that one step of `add_many` takes over: all or none of them.
_STEP = 500
# What the mesh answers to a call whose events it does not read; alone each of them gets its own answer.
_OF_CONTENT = ("INVALID_ARGUMENT", "OUT_OF_RANGE")
_AT_EXIT_SECONDS = 10.0

log = logging.getLogger("tollmesh_client")


@dataclasses.dataclass(frozen=True)
class IngestOptions:
    """How an ingester batches, waits and keeps.

    Attributes:
        batch_rows, batch_bytes, batch_seconds: a batch leaves with so many events or bytes, or once its oldest event
            has waited so long. At most 10,000 events and 15 MiB.
        in_flight: batches on their way at a time.
        queue_rows, queue_bytes: events and bytes kept in memory, if there is no spool.
        when_full: `block` lets `add` wait for room, `raise` raises QueueFull (or SpoolFull) at once.
        call_seconds: for one try to send a batch. Batches are tried until the mesh takes them.
        wait_first, wait_max: seconds between tries, doubled from one to the next; longer when the mesh says so.
    """

    batch_rows: int = 2_000
    batch_bytes: int = 4 * 1024 * 1024
    batch_seconds: float = 0.5
    in_flight: int = 4
    queue_rows: int = 100_000
    queue_bytes: int = 64 * 1024 * 1024
    when_full: WhenFull = "block"
    call_seconds: float = 30.0
    wait_first: float = 0.1
    wait_max: float = 15.0

    def __post_init__(self) -> None:
        """Raises ConfigurationError: a value is out of range."""
        if not (1 <= self.batch_rows <= ROWS_MAX and 1 <= self.batch_bytes <= BYTES_MAX):
            raise ConfigurationError(
                f"IngestOptions: a batch has 1 to {ROWS_MAX:,} rows and 1 to {BYTES_MAX:,} bytes"
            )
        if not (0 < self.batch_seconds <= 3600 and 0 < self.call_seconds <= 3600):
            raise ConfigurationError(
                "IngestOptions: batch_seconds and call_seconds are above 0 and up to 3600"
            )
        if not 1 <= self.in_flight <= 64 or self.when_full not in ("block", "raise"):
            raise ConfigurationError(
                "IngestOptions: in_flight is from 1 to 64, when_full is 'block' or 'raise'"
            )
        if self.queue_rows < self.batch_rows or self.queue_bytes < self.batch_bytes:
            raise ConfigurationError("IngestOptions: the queue must hold a batch at least")


@dataclasses.dataclass(frozen=True)
class Receipt:
    """The answer to a batch, given after its commit.

    Attributes:
        receipt_id: of the mesh.
        accepted, duplicate, conflict, rejected: events by verdict.
        enqueued: events that the mesh holds, durably, because its database is away. They get their verdicts once it is
            back: `GetSpooledBatch` tells them by the receipt_id.
    """

    receipt_id: str
    accepted: int
    duplicate: int
    conflict: int
    rejected: int
    enqueued: int = 0


@dataclasses.dataclass
class Stats:
    """Counts since the start.

    Attributes:
        accepted, duplicate, conflict, rejected: events by the mesh's verdict.
        enqueued: events that the mesh holds until its database is back; it has them for good.
        failed: events that the mesh does not take even alone.
        pending: taken over, and not answered yet.
        batches: answered calls.
        failed_calls: calls that ended with an error; their events were sent again.
        trouble: why the mesh does not take events now; None while it does.
    """

    accepted: int = 0
    duplicate: int = 0
    conflict: int = 0
    rejected: int = 0
    enqueued: int = 0
    failed: int = 0
    pending: int = 0
    batches: int = 0
    failed_calls: int = 0
    trouble: Exception | None = None


@dataclasses.dataclass
class _Batch:
    rows: list[bytes]
    place: Place
    last_row: int
    done: bool = False


OnVerdict = Callable[[Verdict], None]
OnReceipt = Callable[[Receipt], None]
OnTrouble = Callable[[Exception], None]


class UsageIngester:
    """Takes usage events over and sends them until the mesh has answered for each. Use as a context manager.

    An event that was taken over, which is when `add` returns, is sent until there is a verdict. With a spool that holds
    beyond the end of the process, however it ends: the next ingester with the same directory sends what is left, under
    the same request_ids, so that nothing is lost and nothing counted twice.

    Args:
        client: the mesh; stays the caller's to close, after the ingester.
        options: batches, queue, waits.
        spool: keeps events on the disk; None keeps them in memory.
        on_verdict: told of each event that was not accepted. Without it CONFLICT, REJECTED and FAILED are logged as
            warnings. It is called before the event is forgotten, so that it may be told once more after a crash.
        on_receipt: told of each answered batch.
        on_trouble: told when a call fails, before the wait for the next try.

    Callbacks run in threads of the ingester; what they raise is logged.

    It belongs to the process that made it: in one that was forked from that, each method and `stats` raise
    UsedAfterFork, and the end of a `with` block or of the program leaves the ingester alone. Make one in each process,
    after the fork, with a spool of its own.

    Raises:
        SpoolError: the spool cannot be used.
        ConfigurationError: the spool has no room for a batch.
        UsedAfterFork: the client was made before this process was forked.
    """

    def __init__(
        self,
        client: Client,
        options: IngestOptions | None = None,
        *,
        spool: SpoolOptions | None = None,
        on_verdict: OnVerdict | None = None,
        on_receipt: OnReceipt | None = None,
        on_trouble: OnTrouble | None = None,
    ) -> None:
        self._options = options or IngestOptions()
        room = 2 * (self._options.batch_bytes + 8 * self._options.batch_rows) + 64
        if spool is not None and spool.bytes_max < room:
            raise ConfigurationError(
                f"SpoolOptions.bytes_max must be {room:,} at least for batches of this size"
            )
        client.transport.owner.check()
        self.owner = forks.Owner("ingester")
        self._transport = client.transport
        self._spooled = spool is not None
        self._queue: Queue = (
            MemoryQueue(self._options.queue_rows, self._options.queue_bytes)
            if spool is None
            else Spool(spool)
        )
        self._on_verdict = on_verdict or _log_verdict
        self._on_receipt, self._on_trouble = on_receipt, on_trouble
        self._waits = Retries(wait_first=self._options.wait_first, wait_max=self._options.wait_max)
        # Guards all below, and wakes senders, and whoever waits for room or for the end.
        self._state = threading.Condition()
        self._stats = Stats(pending=self._queue.records)
        self._taken_over = self._queue.records
        self._given_out = 0
        self._answered = 0
        self._flush_to = 0
        self._oldest_at = time.monotonic()
        self._in_flight: deque[_Batch] = deque()
        self._closing = self._closed = False
        self._stopped = threading.Event()
        self._calls: set[Any] = set()
        self._broken: IngestError | None = None
        self._senders = [
            threading.Thread(target=self._send_all, name=f"tollmesh-ingest-{number}", daemon=True)
            for number in range(self._options.in_flight)
        ]
        for sender in self._senders:
            sender.start()
        atexit.register(self._at_exit)

    # ---- events in

    def add(self, event: UsageEvent, *, timeout: float | None = None) -> str:
        """Take an event over; returns its request_id, generated if it has none.

        Args:
            event: the event. Its other rules are the mesh's to judge: a broken one is REJECTED.
            timeout: seconds to wait for room when `when_full` is `block`; None waits without end.

        Raises:
            QueueFull: there is no room. SpoolDiskFull, SpoolError: the disk refuses. In all cases the event was not
                taken over.
            FieldMisfit: a value does not fit its field.
            EventTooLarge: the event alone is larger than a batch.
            IngesterClosed: the ingester is closed.
            UsedAfterFork: another process made the ingester.
        """
        self.owner.check()
        request_id = event.request_id or str(uuid4())
        self._take_over([self._framed(event, request_id)], timeout)
        return request_id

    def add_many(self, events: Iterable[UsageEvent], *, timeout: float | None = None) -> list[str]:
        """Take events over, faster than one by one; returns their request_ids.

        Raises as `add` does; those before the error, in steps of 500, were taken over. So give events whose source
        can be asked again request_ids of their own: adding them again counts nothing twice.
        """
        self.owner.check()
        ends_at = None if timeout is None else time.monotonic() + timeout
        rows_max = min(_STEP, self._options.batch_rows)
        ids: list[str] = []
        step: list[bytes] = []
        size = 0
        for event in events:
            request_id = event.request_id or str(uuid4())
            part = self._framed(event, request_id)
            if step and (len(step) >= rows_max or size + len(part) > self._options.batch_bytes):
                self._take_over(step, _left(ends_at))
                step, size = [], 0
            step.append(part)
            size += len(part)
            ids.append(request_id)
        if step:
            self._take_over(step, _left(ends_at))
        return ids

    def _framed(self, event: UsageEvent, request_id: str) -> bytes:
        part = wire.framed(event, request_id)
        if len(part) > self._options.batch_bytes:
            raise EventTooLarge(
                f"event {request_id[:64]} has {len(part):,} bytes, a batch {self._options.batch_bytes:,}"
            )
        return part

    def _take_over(self, parts: Sequence[bytes], timeout: float | None) -> None:
        ends_at = None if timeout is None else time.monotonic() + timeout
        with self._state:
            while True:
                if self._closing:
                    raise IngesterClosed("the ingester is closed")
                if self._broken is not None:
                    raise self._broken
                answered = self._answered
                try:
                    self._queue.put(parts)
                except QueueFull:
                    if self._options.when_full == "raise" or not self._wait_for_room(
                        answered, _left(ends_at)
                    ):
                        raise
                else:
                    break
            if self._taken_over == self._given_out:
                self._oldest_at = time.monotonic()
            before = self._taken_over - self._given_out
            self._taken_over += len(parts)
            self._stats.pending += len(parts)
            waiting = before + len(parts)
            # Others need waking only when their wait changes: for the first event, and for a full batch.
            if (
                before == 0
                or before // self._options.batch_rows != waiting // self._options.batch_rows
            ):
                self._state.notify_all()

    def _wait_for_room(self, answered: int, timeout: float | None) -> bool:
        """Wait until a batch was answered; False when the time ran out first."""
        # What waits is all the room there is: it leaves now, however young.
        self._flush_to = self._taken_over
        self._state.notify_all()
        return self._state.wait_for(
            lambda: self._answered != answered or self._closing or self._broken is not None,
            timeout,
        )

    # ---- batches out

    def _send_all(self) -> None:
        while (batch := self._next_batch()) is not None:
            if not self._deliver(batch.rows):
                return
            self._done(batch)

    def _next_batch(self) -> _Batch | None:
        """Wait for a batch that is due; None at the end."""
        with self._state:
            while True:
                if self._stopped.is_set() or self._broken is not None:
                    return None
                waiting = self._taken_over - self._given_out
                if not waiting:
                    if self._closing:
                        return None
                    self._state.wait()
                    continue
                left = self._oldest_at + self._options.batch_seconds - time.monotonic()
                due = (
                    waiting >= self._options.batch_rows
                    or self._closing
                    or self._flush_to > self._given_out
                    or left <= 0
                )
                if not due:
                    self._state.wait(left)
                    continue
                if (batch := self._take()) is not None:
                    return batch

    def _take(self) -> _Batch | None:
        try:
            rows, place = self._queue.take(self._options.batch_rows, self._options.batch_bytes)
        except IngestError as error:
            self._broken = error
            log.error("usage events cannot be read for sending: %s", error)
            self._state.notify_all()
            return None
        self._given_out += len(rows)
        self._oldest_at = time.monotonic()
        batch = _Batch(rows, place, self._given_out)
        self._in_flight.append(batch)
        return batch

    def _deliver(self, rows: Sequence[bytes]) -> bool:
        """Send rows until they are answered; False when the ingester was stopped before."""
        attempt = 0
        while not self._stopped.is_set():
            attempt += 1
            try:
                answer = self._ask(rows)
            except CallError as error:
                self._trouble(error)
                if error.code in _OF_CONTENT:
                    return self._deliver_apart(rows, error)
                wait = max(self._waits.backoff(attempt), error.retry_after or 0.0)
            # A closed client, an answer that is none: whatever it is, the events stay, and a sender that ended here
            # would leave them unsent.
            except Exception as error:
                self._trouble(error)
                wait = self._waits.backoff(attempt)
            else:
                self._judge(rows, answer)
                return True
            self._stopped.wait(wait)
        return False

    def _ask(self, rows: Sequence[bytes]) -> IngestEventsResponse:
        call = self._transport.begin(PATH, b"".join(rows), self._options.call_seconds)
        with self._state:
            self._calls.add(call)
        try:
            if self._stopped.is_set():
                call.cancel()
            answer = IngestEventsResponse.parse(call.result())
        except grpc.FutureCancelledError as error:
            raise Cancelled("the ingester was closed meanwhile", method=PATH) from error
        except grpc.RpcError as error:
            raise calls.explained(error, PATH) from error
        finally:
            with self._state:
                self._calls.discard(call)
        told = answer.accepted + answer.duplicate + answer.conflict + answer.rejected
        told += answer.enqueued
        if told != len(rows) or any(at.index >= len(rows) for at in answer.problems):
            raise TollmeshError(f"the mesh answered for {told} of {len(rows)} events")
        return answer

    def _deliver_apart(self, rows: Sequence[bytes], error: CallError) -> bool:
        """Send the halves of what the mesh refused as a whole, down to the event that it refuses alone."""
        if len(rows) > 1:
            middle = len(rows) // 2
            return self._deliver(rows[:middle]) and self._deliver(rows[middle:])
        with self._state:
            self._stats.failed += 1
            self._stats.trouble = None
        encoded = wire.unframed(rows[0])
        request_id = UsageEvent.parse(encoded).request_id
        self._tell(
            self._on_verdict, Verdict(request_id, "FAILED", error.reason, error.message, encoded)
        )
        return True

    def _judge(self, rows: Sequence[bytes], answer: IngestEventsResponse) -> None:
        for problem in answer.problems:
            if problem.outcome == Outcome.ENQUEUED:
                continue  # it has no verdict yet
            verdict = Verdict(
                problem.request_id,
                Outcome(problem.outcome).name or str(int(problem.outcome)),
                problem.reason,
                problem.message,
                wire.unframed(rows[problem.index]),
            )
            self._tell(self._on_verdict, verdict)
        counts = (answer.accepted, answer.duplicate, answer.conflict, answer.rejected)
        enqueued = answer.enqueued
        with self._state:
            self._stats.accepted += answer.accepted
            self._stats.duplicate += answer.duplicate
            self._stats.conflict += answer.conflict
            self._stats.rejected += answer.rejected
            self._stats.enqueued += enqueued
            self._stats.batches += 1
            self._stats.trouble = None
        self._tell(self._on_receipt, Receipt(answer.receipt_id, *counts, enqueued))

    def _trouble(self, error: Exception) -> None:
        with self._state:
            new = self._stats.trouble is None or str(self._stats.trouble) != str(error)
            self._stats.trouble = error
            self._stats.failed_calls += 1
        if new:
            log.warning("usage events wait, and are sent again: %s", error)
        self._tell(self._on_trouble, error)

    def _tell(self, told: Callable[[Any], None] | None, what: object) -> None:
        if told is None:
            return
        try:
            told(what)
        # Callbacks are the caller's and raise what they like; a sender outlives it.
        except Exception:
            log.exception("a callback of the ingester failed")

    def _done(self, batch: _Batch) -> None:
        with self._state:
            batch.done = True
            self._stats.pending -= len(batch.rows)
            released: Place | None = None
            while self._in_flight and self._in_flight[0].done:
                first = self._in_flight.popleft()
                released, self._answered = first.place, first.last_row
            if released is not None:
                self._queue.release(released)
                self._state.notify_all()

    # ---- the end

    @property
    def stats(self) -> Stats:
        """Counts at this moment. Raises UsedAfterFork."""
        self.owner.check()
        with self._state:
            return dataclasses.replace(self._stats)

    def flush(self, timeout: float | None = None) -> None:
        """Wait until all that was taken over before is answered.

        Raises:
            EventsUnsent: time ran out; its cause is the last trouble with the mesh. All are kept, and still sent.
            SpoolError: the spool cannot be read.
            UsedAfterFork: another process made the ingester.
        """
        self.owner.check()
        with self._state:
            target = self._taken_over
            self._flush_to = max(self._flush_to, target)
            self._state.notify_all()
            in_time = self._state.wait_for(
                lambda: self._answered >= target or self._broken is not None or self._closed,
                timeout,
            )
            if self._broken is not None:
                raise self._broken
            if not in_time or self._answered < target:
                pending = target - self._answered
                raise EventsUnsent(
                    f"{pending:,} events wait for the mesh", pending
                ) from self._stats.trouble

    def close(self, timeout: float | None = 30.0) -> Stats:
        """Send what waits, for up to `timeout` seconds (None: without end), and stop; returns the counts.

        With a spool, what could not be sent stays on the disk for the next ingester.

        Raises:
            EventsUnsent: time ran out, and there is no spool: these events are lost with the ingester.
            SpoolError: the spool cannot be read.
            UsedAfterFork: another process made the ingester, and closes it.
        """
        self.owner.check()
        with self._state:
            if self._closed:
                return dataclasses.replace(self._stats)
            self._closing = True
            self._state.notify_all()
        unsent: EventsUnsent | None = None
        try:
            self.flush(timeout)
        except EventsUnsent as error:
            unsent = error
        finally:
            self._stop()
        if unsent is not None and not self._spooled:
            raise unsent
        return self.stats

    def _stop(self) -> None:
        self._stopped.set()
        with self._state:
            self._closed = True
            self._state.notify_all()
            running = list(self._calls)
        for call in running:
            # The mesh may have carried it out: sent again, its events are duplicates.
            call.cancel()
        for sender in self._senders:
            sender.join()
        self._queue.close()
        atexit.unregister(self._at_exit)

    def _at_exit(self) -> None:
        if not self.owner.is_here:
            return
        with contextlib.suppress(SystemExit):
            try:
                self.close(_AT_EXIT_SECONDS)
            except IngestError as error:
                log.error("the program ends with usage events unsent: %s", error)

    def __enter__(self) -> UsageIngester:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # What a fork made of the block has nothing to send: `add` took nothing over there.
        if self.owner.is_here:
            self.close()


def _left(ends_at: float | None) -> float | None:
    return None if ends_at is None else max(ends_at - time.monotonic(), 0.0)


def _log_verdict(verdict: Verdict) -> None:
    if verdict.outcome != Outcome.DUPLICATE.name:
        log.warning(
            "usage event %s is not stored: %s %s: %s",
            verdict.request_id,
            verdict.outcome,
            verdict.reason,
            verdict.message,
        )
