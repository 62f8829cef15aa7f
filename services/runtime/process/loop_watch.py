"""Finds what holds the event loop: everything else that a process does waits for that.

A second thread looks at the loop's thread while the loop does not turn. What counts is time of the processor that the
loop's thread used itself, or time that it stood blocked in one place: a machine that is busy with others makes a loop
late, but nothing of it holds the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType

from services.runtime.process.heap import uncollected

HOLD_SECONDS = 0.25
_BEAT_SECONDS = 0.02
_SAMPLE_SECONDS = 0.02
# Frames by which a loop runs what is due; below them stands what holds it.
_RUNNERS = ("asyncio/runners.py", "asyncio/base_events.py", "asyncio/events.py")
_RUNNING = frozenset({"run", "run_until_complete", "run_forever", "_run_once", "_run"})
_SLEEPING = frozenset({"S", "D"})


@dataclass(frozen=True, slots=True)
class Place:
    """A line that is being executed.

    Attributes:
        is_coroutine: its function is one.
    """

    file: str
    line: int
    function: str
    is_coroutine: bool


@dataclass(frozen=True, slots=True)
class Hold:
    """The loop was held.

    Attributes:
        kind: `cpu` or `blocked`.
        held_ms: how long, when it was seen.
        stack: where, the innermost place last.
    """

    kind: str
    held_ms: float
    stack: list[Place]

    def __str__(self) -> str:
        where = "\n".join(f"  {p.file}:{p.line} {p.function}" for p in self.stack)
        return f"the event loop was held for {self.held_ms:.0f} ms ({self.kind}) by\n{where}"


Judge = Callable[[list[Place]], bool]
"""Says of a stack whether it counts."""


@dataclass(slots=True)
class _Turn:
    """One turn of the loop that does not end."""

    cpu_s: float = 0.0
    blocked_s: float = 0.0
    told: bool = False
    at: tuple[FrameType, int] | None = field(default=None)


class LoopWatch:
    """Watches the loop of the thread that starts it.

    Args:
        report: called, from another thread, once a turn that took too long.
        judge: which stacks count; without it all do.
        hold_seconds: how long a turn may take.
        excused: processor seconds of the loop's thread, so far, that count for nothing.
    """

    def __init__(
        self,
        report: Callable[[Hold], None],
        *,
        judge: Judge = lambda stack: True,
        hold_seconds: float = HOLD_SECONDS,
        excused: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._report = report
        self._excused = excused
        self._judge = judge
        self._hold_seconds = hold_seconds
        self._beats = 0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin; call it from the loop."""
        self._loop = loop = asyncio.get_running_loop()
        self._beat(loop)
        self._ident = threading.get_ident()
        self._native_id = threading.get_native_id()
        self._thread = threading.Thread(target=self._run, name="loop-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End."""
        if self._timer is not None:
            self._timer.cancel()
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        self._beats += 1
        self._timer = loop.call_later(_BEAT_SECONDS, self._beat, loop)

    def _run(self) -> None:
        clock = time.pthread_getcpuclockid(self._ident)
        seen, turn = self._beats, _Turn()
        cpu_s, now = time.clock_gettime(clock) - self._excused(), time.monotonic()
        while not self._stopping.wait(_SAMPLE_SECONDS):
            cpu_before, cpu_s = cpu_s, time.clock_gettime(clock) - self._excused()
            before, now = now, time.monotonic()
            if seen != self._beats:
                seen, turn = self._beats, _Turn()
                continue
            # `f_back` makes the frame before. If that starts a collection, what it ends may let the other thread run,
            # whose frame is then gone while CPython 3.11 still reads it.
            with uncollected():
                frame = sys._current_frames().get(self._ident)
                stack = _below_loop(_outermost_first(frame), self._loop)
            if frame is None or not stack or not self._judge(stack):
                turn.at = None
                continue
            turn.cpu_s += cpu_s - cpu_before
            here = (frame, frame.f_lasti)
            stuck = here == turn.at and _state(self._native_id) in _SLEEPING
            turn.blocked_s = turn.blocked_s + now - before if stuck else 0.0
            turn.at = here
            self._tell(turn, stack)
            del frame, here

    def _tell(self, turn: _Turn, stack: list[Place]) -> None:
        if turn.told:
            return
        for kind, seconds in (("cpu", turn.cpu_s), ("blocked", turn.blocked_s)):
            if seconds >= self._hold_seconds:
                turn.told = True
                self._report(Hold(kind, seconds * 1000, stack))
                return


@contextlib.contextmanager
def watching(holds_file: Path | None) -> Iterator[None]:
    """Append what holds the running loop to a file, a line of JSON each; without a file do nothing."""
    if holds_file is None:
        yield
        return

    def report(hold: Hold) -> None:
        line = json.dumps({"pid": os.getpid(), **asdict(hold)}) + "\n"
        with holds_file.open("a", encoding="utf-8") as file:
            file.write(line)

    watch = LoopWatch(report)
    watch.start()
    try:
        yield
    finally:
        watch.stop()


def read_holds(text: str) -> list[Hold]:
    """Return what `watching` wrote."""
    holds = []
    for line in text.splitlines():
        found = json.loads(line)
        stack = [Place(**place) for place in found["stack"]]
        holds.append(Hold(found["kind"], found["held_ms"], stack))
    return holds


def _outermost_first(frame: FrameType | None) -> list[FrameType]:
    frames: list[FrameType] = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    frames.reverse()
    return frames


def _below_loop(frames: list[FrameType], loop: asyncio.AbstractEventLoop) -> list[Place]:
    """The stack of what a loop runs; empty where it runs nothing, or where the thread runs another loop."""
    inside = False
    for number, each in enumerate(frames):
        if _is_runner(each):
            # `asyncio.run` does not say whose it is; the runner within it does.
            if not _runs(each, loop):
                return []
            inside = True
        elif inside:
            rest = frames[number:]
            # It waits for what comes next.
            return [] if rest[0].f_code.co_filename.endswith("selectors.py") else _places(rest)
    return []


def _is_runner(frame: FrameType) -> bool:
    code = frame.f_code
    return code.co_name in _RUNNING and code.co_filename.endswith(_RUNNERS)


def _runs(frame: FrameType, loop: asyncio.AbstractEventLoop) -> bool:
    runner = frame.f_locals.get("self")
    found = getattr(runner, "_loop", runner)
    # `asyncio.run` has no self; the runner that it uses comes next.
    return found is None or found is loop


def _places(frames: list[FrameType]) -> list[Place]:
    coroutine = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
    return [
        Place(
            each.f_code.co_filename,
            each.f_lineno or 0,
            each.f_code.co_qualname,
            bool(each.f_code.co_flags & coroutine),
        )
        for each in frames
    ]


def _state(native_id: int) -> str:
    """The kernel's letter for what a thread of this process does."""
    try:
        text = Path(f"/proc/self/task/{native_id}/stat").read_text(
            encoding="ascii", errors="replace"
        )
    except OSError:
        return "?"
    return text.rpartition(")")[2].split()[0]
