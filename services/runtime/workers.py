"""Work on what strangers sent, off the event loop: processes that can be killed, each item with a budget of its own.

A thread would not do: it holds the interpreter's lock through a long step of C or Rust, and nothing can end it. The
budget is CPU time and not time on the clock, so that a busy machine refuses nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import struct
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from services.runtime.processes import tied_to_parent

WORKERS_MAX = 2
CPU_SECONDS = 2.0
"""What one item may take."""
MEMORY_BYTES_MAX = 2 * 1024**3
"""What a process may ask for: far more than any sound item needs, far less than a machine has."""
OVERRUNS_MAX = 3
"""Items of one call that may overrun: what stands behind them is not looked at."""
ITEMS_PER_JOB = 200
FRAME = struct.Struct("!Q")
_READ_AHEAD_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Overrun:
    """An item that used up its budget; `tried` is false when it was given up unseen, after others of its call."""

    tried: bool = True


class WorkerFault(RuntimeError):
    """The function failed with something that is no error for a caller: a fault of ours."""


Outcome = Any
"""What the function returned, the DomainError that it raised, or an Overrun."""


class Workers:
    """A few processes, started when there is work for them, that call pure functions.

    A tenant has one of them at a time, so that the others stay free for everybody else.

    Args:
        workers_max: processes at most.
        cpu_seconds: budget of an item.
    """

    def __init__(self, workers_max: int = WORKERS_MAX, *, cpu_seconds: float = CPU_SECONDS) -> None:
        self._free = asyncio.Semaphore(workers_max)
        self._cpu_seconds = cpu_seconds
        self._idle: list[_Worker] = []
        self._turns: dict[str, _Turn] = {}

    async def run(
        self,
        tenant_id: str,
        function: Callable[[Any, Any], Any],
        shared: Any,
        items: Sequence[Any],
        *,
        budgets: int = 1,
    ) -> list[Outcome]:
        """Call `function(shared, item)` for each item in another process; returns what came of each, in order.

        Args:
            tenant_id: whose turn it is.
            function: of a module; it and all that it gets and gives can be pickled.
            shared: what all calls get.
            items: what each call gets.
            budgets: how many times the budget of an item each of these may take.

        Raises:
            WorkerFault: the function failed otherwise than by a DomainError.
        """
        async with self._turn(tenant_id):
            outcomes: list[Outcome] = []
            overruns = 0
            while len(outcomes) < len(items):
                rest = items[len(outcomes) :][:ITEMS_PER_JOB]
                # After an overrun each answer is sent at once, so that a death tells which item it was.
                cpu_seconds = budgets * self._cpu_seconds
                job = _Job(_name(function), shared, rest, cpu_seconds, each=overruns > 0)
                done, through = await self._work(job)
                outcomes += done
                if through:
                    continue
                overruns += 1
                if job.each:
                    outcomes.append(Overrun())
                if overruns > OVERRUNS_MAX:
                    left = len(items) - len(outcomes)
                    outcomes += [Overrun(tried=False)] * left
            return outcomes

    async def close(self) -> None:
        """End the processes."""
        while self._idle:
            await self._idle.pop().end()

    async def _work(self, job: _Job) -> tuple[list[Outcome], bool]:
        """Give a job to a process; returns the answers that came, and whether it lived to the end."""
        worker = self._idle.pop() if self._idle else await _Worker.start()
        outcomes: list[Outcome] = []
        try:
            async for answers in worker.answers(job):
                outcomes += answers
        except BaseException:
            await worker.end()
            raise
        if len(outcomes) < len(job.items):
            await worker.end()
            return outcomes, False
        self._idle.append(worker)
        for outcome in outcomes:
            if isinstance(outcome, WorkerFault):
                raise outcome
        return outcomes, True

    @asynccontextmanager
    async def _turn(self, tenant_id: str) -> AsyncIterator[None]:
        turn = self._turns.setdefault(tenant_id, _Turn(asyncio.Lock()))
        turn.users += 1
        try:
            async with turn.lock, self._free:
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

    async def answers(self, job: _Job) -> AsyncIterator[list[Outcome]]:
        """Give the answers to a job as they come; ends early when the process dies."""
        packed = job.packed()
        try:
            self._stdin.write(FRAME.pack(len(packed)))
            self._stdin.write(packed)
            await self._stdin.drain()
            left = len(job.items)
            while left:
                (size,) = FRAME.unpack(await self._stdout.readexactly(FRAME.size))
                answers = pickle.loads(await self._stdout.readexactly(size))  # noqa: S301 - a process of ours
                left -= len(answers)
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
