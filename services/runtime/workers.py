"""Work on what strangers sent, off the event loop: processes that can be killed, each item with a budget of its own.

A thread would not do: it holds the interpreter's lock through a long step of C or Rust, and nothing can end it. The
budget is CPU time and not time on the clock, so that a busy machine refuses nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import pickle
import struct
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from services.runtime.errors import Code, DomainError
from services.runtime.processes import tied_to_parent

WORKERS_MAX = 2
CPU_SECONDS = 2.0
"""What one item may take."""
MEMORY_BYTES_MAX = 2 * 1024**3
"""What a process may ask for: far more than any sound item needs, far less than a machine has."""
OVERRUNS_MAX = 3
"""Items of one call that may overrun: what stands behind them is not looked at."""
CALL_BUDGETS = 4
"""What all items of a call may take together, in budgets of one."""
SLICE_SECONDS = 0.25
"""After so much work others have their turn."""
# What an item may take without being counted as costly: a hundred times what most take.
_CHEAP_SECONDS = 0.01
# A tenant whose costly work of late, fading by half in so long, comes to more shares one process with its kind.
_COSTLY_SECONDS = 0.5
_FADING_SECONDS = 30.0
ITEMS_PER_JOB = 200
FRAME = struct.Struct("!Q")
_READ_AHEAD_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Overrun:
    """An item that used up its budget; `tried` is false when it was given up unseen, after others of its call."""

    tried: bool = True


class CheckTooCostly(DomainError):
    """Something took more work to read or to check than one item may."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "EVENT_CHECK_TOO_COSTLY"
    state_dependent = True
    subject: str
    cpu_seconds: float | None = None


class WorkerFault(RuntimeError):
    """The function failed with an internal error, not one for the caller."""


Outcome = Any
"""What the function returned, the DomainError that it raised, or an Overrun."""


class Workers:
    """A few processes, started when there is work for them, that call pure functions.

    A tenant has one of them at a time, and those whose items are costly leave one free for everybody else. Who used
    the least of late comes first.

    Args:
        workers_max: processes at most.
        cpu_seconds: budget of an item.
    """

    def __init__(self, workers_max: int = WORKERS_MAX, *, cpu_seconds: float = CPU_SECONDS) -> None:
        self._cpu_seconds = cpu_seconds
        self._idle: list[_Worker] = []
        self._turns: dict[str, _Turn] = {}
        self._places = _Places(workers_max)

    async def run(
        self,
        tenant_id: str,
        function: Callable[[Any, Any], Any],
        shared: Any,
        items: Sequence[Any],
        *,
        budgets: int = 1,
        until: float = math.inf,
    ) -> list[Outcome]:
        """Call `function(shared, item)` for each item in another process; returns what came of each, in order.

        Args:
            tenant_id: whose turn it is.
            function: of a module; it and all that it gets and gives can be pickled.
            shared: what all calls get.
            items: what each call gets.
            budgets: how many times the budget of an item each of these may take.
            until: monotonic seconds at which nothing more is tried behind an item that took more than its budget.

        Raises:
            WorkerFault: the function failed otherwise than by a DomainError.
        """
        async with self._turn(tenant_id):
            outcomes: list[Outcome] = []
            overruns, spent = 0, 0.0
            cpu_seconds = budgets * self._cpu_seconds
            while len(outcomes) < len(items):
                rest = items[len(outcomes) :][:ITEMS_PER_JOB]
                # After an overrun each answer is sent at once, so that a death tells which item it was.
                job = _Job(_name(function), shared, rest, cpu_seconds, each=overruns > 0)
                async with self._places.one(tenant_id) as place:
                    done = await self._work(job)
                    took = done.cpu_seconds + (cpu_seconds if done.died else 0.0)
                    place.costly_seconds = took - _CHEAP_SECONDS * len(done.outcomes)
                outcomes += done.outcomes
                spent += took
                if done.died:
                    overruns += 1
                    if job.each:
                        outcomes.append(Overrun())
                if (
                    overruns > OVERRUNS_MAX
                    # The first death tells that one of them was too costly, the next one which.
                    or (overruns > 1 and time.monotonic() > until)
                    or spent > max(CALL_BUDGETS, budgets) * self._cpu_seconds
                ):
                    left = len(items) - len(outcomes)
                    outcomes += [Overrun(tried=False)] * left
            return outcomes

    async def close(self) -> None:
        """End the processes."""
        while self._idle:
            await self._idle.pop().end()

    async def _work(self, job: _Job) -> _Done:
        """Give a job to a process, which may do a part of it and leave the rest for another turn."""
        worker = self._idle.pop() if self._idle else await _Worker.start()
        done = _Done()
        try:
            async for answers in worker.answers(job):
                done.outcomes += answers.outcomes
                done.cpu_seconds += answers.cpu_seconds
                done.died = answers.goes_on
        except BaseException:
            await worker.end()
            raise
        if done.died:
            await worker.end()
            return done
        self._idle.append(worker)
        for outcome in done.outcomes:
            if isinstance(outcome, WorkerFault):
                raise outcome
        return done

    @asynccontextmanager
    async def _turn(self, tenant_id: str) -> AsyncIterator[None]:
        turn = self._turns.setdefault(tenant_id, _Turn(asyncio.Lock()))
        turn.users += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[tenant_id]


@dataclass(slots=True)
class _Turn:
    lock: asyncio.Lock
    users: int = 0


@dataclass(frozen=True, slots=True)
class Answers:
    """What a process sends: some outcomes, what they took, and whether more of this turn follow."""

    outcomes: list[Outcome]
    cpu_seconds: float
    goes_on: bool


@dataclass(slots=True)
class _Done:
    outcomes: list[Outcome] = field(default_factory=list)
    cpu_seconds: float = 0.0
    died: bool = True


@dataclass(slots=True)
class _Waiting:
    tenant_id: str
    turn: asyncio.Future[bool]


@dataclass(slots=True)
class _Place:
    costly_seconds: float = 0.0


class _Places:
    """Who may have a process now."""

    def __init__(self, workers_max: int) -> None:
        self._free = workers_max
        # One stays free of them, where there is more than one.
        self._free_for_costly = max(1, workers_max - 1)
        self._waiting: list[_Waiting] = []
        # Costly work of tenants, as of a moment.
        self._costly: dict[str, tuple[float, float]] = {}

    @asynccontextmanager
    async def one(self, tenant_id: str) -> AsyncIterator[_Place]:
        """Wait for a place; what is written into it is remembered of the tenant."""
        place, loop = _Place(), asyncio.get_running_loop()
        as_costly = await self._taken(tenant_id)
        began_at = loop.time()
        try:
            yield place
        except BaseException:
            # Who goes away has used what it had until then.
            place.costly_seconds = loop.time() - began_at - _CHEAP_SECONDS
            raise
        finally:
            self._remember(tenant_id, place.costly_seconds)
            self._give_back(as_costly=as_costly)

    async def _taken(self, tenant_id: str) -> bool:
        waiting = _Waiting(tenant_id, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._serve()
        try:
            return await waiting.turn
        except asyncio.CancelledError:
            if waiting.turn.cancelled():
                self._waiting.remove(waiting)
            else:
                self._give_back(as_costly=waiting.turn.result())
            raise

    def _give_back(self, *, as_costly: bool) -> None:
        self._free += 1
        self._free_for_costly += as_costly
        self._serve()

    def _serve(self) -> None:
        for waiting in sorted(self._waiting, key=lambda each: self._of_late(each.tenant_id)):
            if not self._free:
                return
            as_costly = self._of_late(waiting.tenant_id) > _COSTLY_SECONDS
            if waiting.turn.done() or (as_costly and not self._free_for_costly):
                continue
            self._free -= 1
            self._free_for_costly -= as_costly
            self._waiting.remove(waiting)
            waiting.turn.set_result(as_costly)

    def _remember(self, tenant_id: str, costly_seconds: float) -> None:
        if costly_seconds > 0:
            found = self._of_late(tenant_id) + costly_seconds
            self._costly[tenant_id] = (found, asyncio.get_running_loop().time())

    def _of_late(self, tenant_id: str) -> float:
        """Return the costly work of a tenant, faded."""
        seconds, at = self._costly.get(tenant_id, (0.0, 0.0))
        faded: float = seconds * 0.5 ** ((asyncio.get_running_loop().time() - at) / _FADING_SECONDS)
        if seconds and faded < _CHEAP_SECONDS:
            del self._costly[tenant_id]
        return faded


@dataclass(frozen=True, slots=True)
class _Job:
    function: str
    shared: Any
    items: Sequence[Any]
    cpu_seconds: float
    each: bool

    def packed(self) -> bytes:
        said = (self.function, self.shared, list(self.items), self.cpu_seconds, self.each)
        return pickle.dumps(said, pickle.HIGHEST_PROTOCOL)


class _Worker:
    """A process of `worker_process`, at the other end of two pipes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None and process.stdout is not None
        self._process = process
        self._stdin = process.stdin
        self._stdout = process.stdout

    @classmethod
    async def start(cls) -> _Worker:
        """Start a process, which knows no secrets of ours and does not outlive us."""
        command = [sys.executable, "-m", "services.runtime.worker_process"]
        environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "LC_ALL": "C.UTF-8"}
        return cls(
            await asyncio.create_subprocess_exec(
                *tied_to_parent(command),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=environment,
                limit=_READ_AHEAD_BYTES,
                # Ctrl-C in a terminal is for us.
                start_new_session=True,
            )
        )

    async def answers(self, job: _Job) -> AsyncIterator[Answers]:
        """Give the answers to a job as they come; ends while they go on when the process dies."""
        packed = job.packed()
        try:
            self._stdin.write(FRAME.pack(len(packed)))
            self._stdin.write(packed)
            await self._stdin.drain()
            goes_on = True
            while goes_on:
                (size,) = FRAME.unpack(await self._stdout.readexactly(FRAME.size))
                answers = pickle.loads(await self._stdout.readexactly(size))  # noqa: S301 - a process of ours
                goes_on = answers.goes_on
                yield answers
        except (asyncio.IncompleteReadError, ConnectionError):
            return

    async def end(self) -> None:
        """Kill the process and wait for it: it holds nothing that would have to be kept."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._stdin.close()
        await asyncio.shield(self._process.wait())


def _name(function: Callable[..., Any]) -> str:
    return f"{function.__module__}:{function.__qualname__}"
