"""The processes of the fuzz, and the judge of what they did.

Producers change aggregates and publish an event of each change; with some luck they roll back, sleep while their
transaction is open, or take its id long before they write. Sequencers and dispatchers are those of the mesh. All are
processes that may be killed at any instruction, so what really was committed is not told by them: each
transaction that publishes writes the same into a table of truth.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext, ForkServerProcess

from payments.events.v1.pricing_events_pb2 import PlanCreated

from services.runtime.clock import SystemClock
from services.runtime.context import acting
from services.runtime.database import Database, UnitOfWork
from services.runtime.errors import DomainError
from services.runtime.events.bus import EventBus
from services.runtime.events.dispatcher import Dispatcher
from services.runtime.events.relay import Relay
from services.runtime.events.sequencer import Sequencer
from services.runtime.postgres.roles import DatabaseUrls
from services.runtime.telemetry import Silent, configure_logs
from tests.support.events import worker as event_worker
from tests.support.events.lab import Effect, Lab, call, inversions

PRODUCERS, SEQUENCERS, DISPATCHERS = 6, 2, 6
KEYS = [f"k{number}" for number in range(12)] + ["poison1", "poison2"]

_TABLES = """
CREATE TABLE probe.aggregate (tenant_id text, key text, version int NOT NULL, PRIMARY KEY (tenant_id, key));
CREATE TABLE probe.truth (event_id text PRIMARY KEY, tenant_id text NOT NULL, key text NOT NULL, version int NOT NULL);
GRANT SELECT, INSERT, UPDATE ON probe.aggregate, probe.truth TO PUBLIC;
"""
_BUMP = (
    "INSERT INTO probe.aggregate VALUES (%(tenant)s, %(key)s, 1) ON CONFLICT (tenant_id, key) "
    "DO UPDATE SET version = probe.aggregate.version + 1 RETURNING version"
)
_TRUTH = "INSERT INTO probe.truth VALUES (%(event_id)s, %(tenant)s, %(key)s, %(version)s)"


class ChangedMind(Exception):
    """A producer rolls back."""


async def prepare(lab: Lab) -> None:
    """Make the tables of the producers."""
    await lab.rows(_TABLES)


async def change(work: UnitOfWork, tenant: str, key: str) -> None:
    """Change an aggregate, publish the change, and note it where it can be looked up."""
    version = int((await work.execute(_BUMP, {"tenant": tenant, "key": key})).scalar_one())
    event_id = work.publish(PlanCreated(plan_id=key, plan_version=version))
    noted = {"event_id": event_id, "tenant": tenant, "key": key, "version": version}
    await work.execute(_TRUTH, noted)


async def _transaction(database: Database, tenant: str, dice: random.Random) -> None:
    """Change some aggregates as a use case does; sometimes slowly, sometimes in vain."""
    keys = dice.sample(KEYS, dice.choice((1, 1, 2, 3)))
    async with database.unit_of_work("fuzz.produce") as work:
        if dice.random() < 0.5:
            await work.execute("SELECT pg_current_xact_id()")
            await asyncio.sleep(dice.random() * 0.02)
        for key in sorted(keys):
            await change(work, tenant, key)
        await asyncio.sleep(dice.random() * 0.02)
        if dice.random() < 0.1:
            raise ChangedMind


async def _produce(urls: DatabaseUrls, tenant: str, seed: int) -> None:
    database = Database(urls.service, SystemClock(), pool_size=2)
    dice = random.Random(seed)
    while True:
        try:
            with acting(call(tenant)):
                await _transaction(database, tenant, dice)
        except (ChangedMind, DomainError):
            pass  # it changed its mind, or the database is away just now
        await asyncio.sleep(dice.random() * 0.06)


async def _sequence(urls: DatabaseUrls) -> None:
    await Sequencer(Relay(urls.relay), EventBus()).loop.run()


async def _dispatch(urls: DatabaseUrls, role: str) -> None:
    relay = Relay(urls.relay, lease_ms=event_worker.LEASE_MS, workers=2)
    dispatcher = Dispatcher(relay, event_worker.reactions(), EventBus(), SystemClock(), Silent())
    dispatcher.start(role)
    await asyncio.Event().wait()


def produce(urls: DatabaseUrls, tenant: str, seed: int) -> None:
    """Be a producer until the process is killed."""
    configure_logs("critical")
    asyncio.run(_produce(urls, tenant, seed))


def sequence(urls: DatabaseUrls) -> None:
    """Be a sequencer until the process is killed."""
    configure_logs("critical")
    asyncio.run(_sequence(urls))


def dispatch(urls: DatabaseUrls, role: str) -> None:
    """Be a dispatcher until the process is killed."""
    configure_logs("critical")
    random.seed()
    asyncio.run(_dispatch(urls, role))


@dataclass
class Crew:
    """Processes of one kind, of which there are always as many as there should be.

    Attributes:
        size: how many.
        start: starts one, given its number; numbers are never used twice.
        killed: how many were killed.
        paused: how many were paused.
    """

    size: int
    start: Callable[[int], ForkServerProcess]
    killed: int = 0
    paused: int = 0
    _alive: list[ForkServerProcess] = field(default_factory=list)
    _started: int = 0

    def fill(self) -> None:
        """Start as many as there should be."""
        self._alive = [process for process in self._alive if process.is_alive()]
        while len(self._alive) < self.size:
            self._alive.append(self.start(self._started))
            self._started += 1

    async def kill_one(self, dice: random.Random) -> None:
        """Kill one at whatever it does, and start another."""
        victim = dice.choice(self._alive)
        victim.kill()
        await asyncio.to_thread(victim.join)
        self.killed += 1
        self.fill()

    async def pause_one(self, dice: random.Random, seconds: float) -> None:
        """Stop one for some time and let it go on as if nothing had happened."""
        victim = dice.choice(self._alive)
        assert victim.pid is not None
        os.kill(victim.pid, signal.SIGSTOP)
        self.paused += 1
        await asyncio.sleep(seconds)
        if victim.is_alive():
            os.kill(victim.pid, signal.SIGCONT)

    def end(self) -> None:
        """Kill all of them."""
        for process in self._alive:
            process.kill()
            process.join()


@dataclass(frozen=True, slots=True)
class Crews:
    """Everybody that takes part."""

    producers: Crew
    sequencers: Crew
    dispatchers: Crew

    def __iter__(self) -> Iterator[Crew]:
        return iter((self.producers, self.sequencers, self.dispatchers))

    @property
    def killed(self) -> int:
        """SIGKILLs in all."""
        return sum(crew.killed for crew in self)


@contextmanager
def crews(urls: DatabaseUrls, role: str, tenant: str, seed: int) -> Iterator[Crews]:
    """Start six producers, two sequencers and six dispatchers; all are gone when the block ends."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.events.fuzz"])
    taking_part = Crews(
        Crew(PRODUCERS, lambda number: _start(context, produce, urls, tenant, seed + number)),
        Crew(SEQUENCERS, lambda _: _start(context, sequence, urls)),
        Crew(DISPATCHERS, lambda _: _start(context, dispatch, urls, role)),
    )
    try:
        for crew in taking_part:
            crew.fill()
        yield taking_part
    finally:
        for crew in taking_part:
            crew.end()


def _start(
    context: ForkServerContext, target: Callable[..., None], *arguments: object
) -> ForkServerProcess:
    process = context.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


@dataclass(frozen=True, slots=True)
class Faults:
    """What a reader did wrong, set against the truth.

    Attributes:
        lost: committed, and without an effect.
        invented: an effect of what was rolled back, or of poison.
        doubled: more than one effect.
        inverted: an effect after one of a later event of its key.
    """

    lost: int
    invented: int
    doubled: int
    inverted: int

    @property
    def none(self) -> bool:
        """True when there is nothing to blame."""
        return not (self.lost or self.invented or self.doubled or self.inverted)


def judge(expected: Iterable[str], effects: Sequence[Effect]) -> Faults:
    """Hold what one reader did, in its order, to what was to be done."""
    wanted, times = set(expected), Counter(effect.event_id for effect in effects)
    return Faults(
        lost=len(wanted - times.keys()),
        invented=len(times.keys() - wanted),
        doubled=sum(count > 1 for count in times.values()),
        inverted=len(inversions(effects)),
    )


async def truth(lab: Lab, tenant: str) -> dict[str, tuple[str, int]]:
    """Return key and version of every event that was committed, by id."""
    rows = await lab.rows(
        "SELECT event_id, key, version FROM probe.truth WHERE tenant_id = %s", tenant
    )
    return {row["event_id"]: (row["key"], row["version"]) for row in rows}
