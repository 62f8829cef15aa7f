"""Each guard of the running engine, taken away: the same payments at the same peers then show a double or lost charge.

With all of them `test_peers` finds none. The switches exist here only.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from services.orchestration.app import asking, engine
from services.orchestration.domain.operations import Operation
from services.orchestration.domain.payment import Attempt, AttemptStatus, Progress
from services.orchestration.domain.record import Payment
from services.orchestration.ports import Order
from services.orchestration.store import payments as store
from services.runtime.database import UnitOfWork
from services.runtime.postgres.roles import DatabaseUrls
from tests.integration.orchestration.conftest import Bench, serving
from tests.support.peers.faulted import Amiss
from tests.support.peers.stage import PEERS, faulted

# Each batch is another draw; most mutants are found by the first.
BATCHES = 4
COUNT = 12

# One live attempt of a step; the order of attempts is unique too, and refuses the same two.
WITHOUT_INDEX = (
    "DROP INDEX orchestration.one_live_taking",
    "ALTER TABLE orchestration.attempt DROP CONSTRAINT attempt_tenant_id_payment_id_ordinal_key",
)
WITHOUT_SUM = ("DROP TRIGGER check_left ON orchestration.attempt",)


@contextmanager
def nothing(patched: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave the code as it is."""
    yield


@contextmanager
def without_sent(patched: pytest.MonkeyPatch) -> Iterator[None]:
    """Store an attempt only with its outcome, as where nothing is written before a processor is asked."""
    insert, update = store.insert_attempt, store.update_attempt
    places: dict[str, tuple[str, int]] = {}

    def held_back(work: UnitOfWork, payment_id: str, ordinal: int, attempt: Attempt) -> None:
        places[attempt.attempt_id] = (payment_id, ordinal)

    def with_outcome(work: UnitOfWork, attempt: Attempt) -> None:
        place = places.pop(attempt.attempt_id, None)
        if place is None:
            update(work, attempt)
        else:
            insert(work, *place, attempt)

    patched.setattr(store, "insert_attempt", held_back)
    patched.setattr(store, "update_attempt", with_outcome)
    yield


@contextmanager
def with_fresh_keys(patched: pytest.MonkeyPatch) -> Iterator[None]:
    """Give every call a key of its own, as where keys are made when something is sent."""
    order_of = asking.order_of

    def fresh(payment: Payment, attempt: Attempt) -> Order:
        return replace(order_of(payment, attempt), idempotency_key=uuid.uuid4().hex)

    patched.setattr(engine, "order_of", fresh)
    yield


@contextmanager
def without_sum(patched: pytest.MonkeyPatch) -> Iterator[None]:
    """Count nothing that was given back of a charge against what is left of it."""
    left_of = Progress.left_of

    def whole(self: Progress, attempt: Attempt) -> int:
        if attempt.operation is Operation.AUTHORIZE:
            return left_of(self, attempt)
        acted = attempt.done or attempt.status is AttemptStatus.LATE_CHARGE
        return attempt.amount_minor if acted else 0

    patched.setattr(Progress, "left_of", whole)
    yield


@pytest.mark.parametrize("peer", PEERS)
async def test_with_the_guard_index_a_worker_that_is_there_twice_charges_once(
    database_url: DatabaseUrls, tmp_path: Path, peer: str
) -> None:
    async with serving(database_url, [], **allowed(tmp_path)) as (mesh, runs, booker, clock, apply):
        tenant_id = f"t-{uuid.uuid4().hex[:12]}"
        bench = Bench(mesh, runs, booker, clock, database_url, tenant_id, apply)
        async with PEERS[peer]() as running:
            given = MUTANTS["guard index"][2]
            await faulted(bench, running, tmp_path, seed=0, count=COUNT, **given)


def allowed(folder: Path) -> dict[str, Any]:
    """Return the settings with which peers may be called."""
    return {"processor_allow": "127.0.0.1", "processor_credentials_dir": folder}


MUTANTS: dict[str, tuple[Callable[[pytest.MonkeyPatch], Any], tuple[str, ...], dict[str, Any]]] = {
    "guard index": (nothing, WITHOUT_INDEX, {"doubled": 0.8, "deaths": 0.0, "refunds": False}),
    "commit of SENT": (without_sent, (), {"deaths": 0.2, "doubled": 0.0, "refunds": False}),
    "key reuse": (with_fresh_keys, (), {"deaths": 0.0, "doubled": 0.0, "refunds": False}),
    "refund sum": (without_sum, WITHOUT_SUM, {"deaths": 0.0, "doubled": 0.0}),
}


@pytest.mark.parametrize(
    ("guard", "peer"),
    [
        ("guard index", "hostile"),
        ("guard index", "keyed"),
        ("commit of SENT", "hostile"),
        ("commit of SENT", "keyed"),
        # Of the other nothing is asked by its key.
        ("key reuse", "keyed"),
        # The other refuses by itself to give back more than it took.
        ("refund sum", "hostile"),
    ],
)
async def test_without_a_guard_a_charge_is_doubled_or_lost(
    new_database: Callable[..., DatabaseUrls],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    guard: str,
    peer: str,
) -> None:
    switch, statements, mishaps = MUTANTS[guard]
    urls = new_database()
    with psycopg.connect(urls.owner_admin, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())
    async with serving(urls, [], **allowed(tmp_path)) as (mesh, runs, booker, clock, apply):
        with switch(monkeypatch), pytest.raises(Amiss):
            for seed in range(BATCHES):
                tenant_id = f"t-{uuid.uuid4().hex[:12]}"
                bench = Bench(mesh, runs, booker, clock, urls, tenant_id, apply)
                async with PEERS[peer]() as running:
                    await faulted(bench, running, tmp_path, seed=seed, count=COUNT, **mishaps)
