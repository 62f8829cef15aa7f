"""The queue of due work on Postgres: who may claim what, held against a plain model; and what no tenant may see."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from payments.events.v1.pricing_events_pb2 import PlanCreated

from services.runtime.clock import ManualClock
from services.runtime.context import current
from services.runtime.database import Database, UnitOfWork
from services.runtime.postgres import roles, schema
from services.runtime.work import Claim, claims, lag
from tests.support.postgres.server import DatabaseUrls, Server

START = datetime(2026, 3, 1, tzinfo=UTC)
LEASE_MS = 3_600_000
CLAIM = (
    "SELECT tenant_id, item_id, epoch, tries, correlation_id, causation_id"
    " FROM lab.claim_due(%(now)s, %(owner)s, %(lease_ms)s, %(batch)s)"
)
LAG = "SELECT due, oldest_at FROM lab.due_lag(%(now)s)"
GIVE_BACK = (
    "UPDATE lab.work SET due_at = %(due_at)s, lease_owner = NULL, lease_until = NULL"
    " WHERE tenant_id = %(tenant_id)s AND item_id = %(item_id)s AND epoch = %(epoch)s RETURNING item_id"
)
TABLE = """
CREATE TABLE lab.work (
  tenant_id text NOT NULL, item_id text NOT NULL, due_at timestamptz, lease_owner text, lease_until timestamptz,
  epoch bigint NOT NULL DEFAULT 0, tries integer NOT NULL DEFAULT 0, correlation_id text NOT NULL,
  causation_id text NOT NULL, PRIMARY KEY (tenant_id, item_id))
"""


class Operations:
    """What a migration is given, on a session of the owner."""

    def __init__(self, session: psycopg.Connection, owner: str) -> None:
        self._session = session
        self._owner = owner

    def execute(self, text: str) -> None:
        """Run a statement."""
        self._session.execute(text.encode())

    def get_bind(self) -> Any:
        """Answer who migrates."""
        answer = SimpleNamespace(scalar_one=lambda: self._owner)
        return SimpleNamespace(execute=lambda _: answer)


@pytest.fixture(scope="module")
def queued(postgres_server: Server) -> Iterator[DatabaseUrls]:
    """A database with a queue of its own."""
    urls = postgres_server.new_database("work")
    with roles.connect(urls.owner_admin) as session:
        names = roles.find_names(session)
        session.execute(f'SET ROLE "{names.owner}"'.encode())
        operations: Any = Operations(session, names.owner)
        session.execute("CREATE SCHEMA lab")
        session.execute(f'GRANT USAGE ON SCHEMA lab TO "{names.service}"'.encode())
        session.execute(TABLE)
        session.execute("CREATE INDEX work_due ON lab.work (due_at) WHERE due_at IS NOT NULL")
        schema.protect(operations, "lab", "work")
        schema.queue(operations, "lab", "work", "item_id")
        session.commit()
    yield urls
    postgres_server.drop_database(urls)


@pytest.fixture
async def database(queued: DatabaseUrls) -> Any:
    made = Database(queued.service, ManualClock(START))
    yield made
    await made.close()


def owner_of(queued: DatabaseUrls) -> psycopg.Connection:
    return psycopg.connect(queued.owner_admin, autocommit=True)


def add(session: psycopg.Connection, tenant: str, item: str, due_at: datetime) -> None:
    session.execute(
        "INSERT INTO lab.work (tenant_id, item_id, due_at, correlation_id, causation_id)"
        " VALUES (%s, %s, %s, %s, %s)",
        (tenant, item, due_at, f"chain-{item}", f"cause-{item}"),
    )


# ---- held against a model


@dataclass(frozen=True)
class Row:
    """A piece of work, as the model has it."""

    due_at: datetime | None
    leased: bool = False
    epoch: int = 0
    tries: int = 0


class QueueMachine(RuleBasedStateMachine):
    """Processes claim, finish, put off, die and come back as zombies; business time and leases pass on."""

    urls: DatabaseUrls

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[tuple[str, str], Row] = {}
        self.now = START
        self.owner = owner_of(self.urls)
        self.owner.execute("DELETE FROM lab.work")
        self.service = psycopg.connect(self.urls.service, autocommit=True)

    def teardown(self) -> None:
        self.owner.close()
        self.service.close()

    held = Bundle("held")
    stale = Bundle("stale")

    @rule(tenant=st.sampled_from("abc"), after_minutes=st.integers(-30, 30))
    def add(self, tenant: str, after_minutes: int) -> None:
        # A microsecond of its own, so that the order of what is due is one.
        number = len(self.rows)
        due_at = self.now + timedelta(minutes=after_minutes, microseconds=number)
        add(self.owner, tenant, f"i{number}", due_at)
        self.rows[tenant, f"i{number}"] = Row(due_at)

    @rule(minutes=st.integers(1, 60))
    def time_passes(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    @rule(target=held, batch=st.integers(0, 4), owner=st.sampled_from(["p1", "p2"]))
    def claim(self, batch: int, owner: str) -> Any:
        free = [key for key, row in self.rows.items() if self._is_free(row)]
        expected = sorted(free, key=lambda key: str(self.rows[key].due_at))[:batch]
        for key in expected:
            row = self.rows[key]
            self.rows[key] = replace(row, leased=True, epoch=row.epoch + 1, tries=row.tries + 1)
        asked = {"now": self.now, "owner": owner, "lease_ms": LEASE_MS, "batch": batch}
        claimed = [
            Claim(tenant, item, epoch, chain, cause, tries)
            for tenant, item, epoch, tries, chain, cause in self.service.execute(
                CLAIM.encode(), asked
            )
        ]
        assert {(c.tenant_id, c.item_id) for c in claimed} == set(expected)
        for found in claimed:
            row = self.rows[found.tenant_id, found.item_id]
            assert (found.epoch, found.tries) == (row.epoch, row.tries)
            assert found.correlation_id == f"chain-{found.item_id}"
            assert found.causation_id == f"cause-{found.item_id}"
        return multiple(*claimed)

    @rule(claim=consumes(held), after_minutes=st.none() | st.integers(0, 30))
    def give_back(self, claim: Claim, after_minutes: int | None) -> None:
        """Finish it, or put it off: only who holds it by now may."""
        due_at = None
        if after_minutes is not None:
            number = int(claim.item_id.removeprefix("i"))
            due_at = self.now + timedelta(minutes=after_minutes, microseconds=number)
        key = (claim.tenant_id, claim.item_id)
        row = self.rows[key]
        asked = {
            "tenant_id": claim.tenant_id,
            "item_id": claim.item_id,
            "epoch": claim.epoch,
            "due_at": due_at,
        }
        with self.service.transaction():
            self.service.execute("SELECT set_config('mesh.tenant', %s, true)", (claim.tenant_id,))
            given = self.service.execute(GIVE_BACK.encode(), asked).fetchall()
        assert bool(given) == (claim.epoch == row.epoch), "a zombie writes nothing"
        if given:
            self.rows[key] = replace(row, due_at=due_at, leased=False)

    @precondition(lambda self: any(row.leased for row in self.rows.values()))
    @rule(data=st.data())
    def lease_runs_out(self, data: st.DataObject) -> None:
        """Its holder died, or was paused for too long: its claim stays and may be used as a zombie's."""
        leased = sorted(key for key, row in self.rows.items() if row.leased)
        key = data.draw(st.sampled_from(leased))
        self.owner.execute(
            "UPDATE lab.work SET lease_until = clock_timestamp() - interval '1 second'"
            " WHERE tenant_id = %s AND item_id = %s",
            key,
        )
        self.rows[key] = replace(self.rows[key], leased=False)

    @invariant()
    def lag_is_what_waits(self) -> None:
        waiting = [row.due_at for row in self.rows.values() if self._is_free(row)]
        oldest_at = min((at for at in waiting if at is not None), default=None)
        found = self.service.execute(LAG.encode(), {"now": self.now}).fetchone()
        assert found == (len(waiting), oldest_at)

    def _is_free(self, row: Row) -> bool:
        return row.due_at is not None and row.due_at <= self.now and not row.leased


def test_claims_are_as_the_model_has_them(queued: DatabaseUrls) -> None:
    QueueMachine.urls = queued
    run_state_machine_as_test(
        QueueMachine,
        settings=settings(
            max_examples=40,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


# ---- many at once


async def test_processes_that_claim_at_once_share_what_is_due(
    database: Database, queued: DatabaseUrls
) -> None:
    with owner_of(queued) as owner:
        owner.execute("DELETE FROM lab.work")
        for number in range(120):
            add(owner, f"t{number % 3}", f"i{number}", START - timedelta(seconds=number + 1))

    async def process(name: str) -> list[Claim]:
        found: list[Claim] = []
        while True:
            async with database.across_tenants("lab.claim") as work:
                taken = await claims(work, CLAIM, owner=name, lease_ms=LEASE_MS, batch=7)
            found += taken
            if not taken:
                return found

    shares = await asyncio.gather(*(process(f"p{number}") for number in range(6)))
    claimed = [claim.item_id for share in shares for claim in share]
    assert sorted(claimed) == sorted(f"i{number}" for number in range(120))
    assert (await lag(database, LAG)).due == 0


def test_a_claim_takes_no_more_than_its_batch_whatever_the_plan(queued: DatabaseUrls) -> None:
    """A sub-select beside the update may be run again for each row, and then finds others each time."""
    with owner_of(queued) as owner:
        owner.execute("DELETE FROM lab.work")
        add(owner, "t", "i", START)
        # From here on the planner takes the table for one of a single row.
        owner.execute("VACUUM (FULL, ANALYZE) lab.work")
        for number in range(40):
            add(owner, "t", f"i{number}", START)
    with psycopg.connect(queued.service, autocommit=True) as session:
        asked = {"now": START, "owner": "me", "lease_ms": LEASE_MS, "batch": 3}
        for _ in range(3):
            assert len(session.execute(CLAIM.encode(), asked).fetchall()) == 3


# ---- no tenant


async def test_a_transaction_for_no_tenant_is_shown_nothing(
    database: Database, queued: DatabaseUrls
) -> None:
    with owner_of(queued) as owner:
        add(owner, "whose", "secret", START)
    for statement in (
        "SELECT * FROM lab.work",
        "UPDATE lab.work SET due_at = NULL",
        "DELETE FROM lab.work",
        "INSERT INTO lab.work (tenant_id, item_id, correlation_id, causation_id) VALUES ('', '1', '', '')",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            async with database.across_tenants("lab.nobody") as work:
                await work.execute(statement)
    with pytest.raises(LookupError):
        current()


async def test_a_transaction_for_no_tenant_tells_nothing(database: Database) -> None:
    def publish(work: UnitOfWork) -> None:
        work.publish(PlanCreated(plan_id="p", plan_version=1))

    def audit(work: UnitOfWork) -> None:
        work.audit("plan", "p", None, {"a": 1})

    for tell in (publish, audit):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            async with database.across_tenants("lab.nobody") as work:
                tell(work)
