"""A payment continues from every state that a death can leave behind, and is charged once.

Each test lets a worker die at one point, by an exception that nothing in the engine catches, and lets the sweeper
continue. The lease of the dead is ended by hand: leases count in the database's own time.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import psycopg
import pytest
from payments.orchestration.v1.orchestration_service_pb2_grpc import PaymentServiceStub

from services.orchestration import bootstrap
from services.orchestration.app import engine as engine_module
from services.orchestration.app.engine import LEASE_MARGIN_MS, Engine
from services.orchestration.work.payments import DuePayments, Runs
from services.runtime import database as database_module
from services.runtime.access import MeshTokens, Principal
from services.runtime.clock import ManualClock
from services.runtime.service import Runtime, Service
from services.runtime.work import Claim, Worker
from tests.support.mesh.serving import MESH_SECRET, running
from tests.support.postgres.server import DatabaseUrls

from .conftest import (
    ACH,
    CARD,
    CARD_WITH_FALLBACK,
    IN_TURN,
    START,
    WALLET,
    Bench,
    status,
    step_statuses,
)


class Died(BaseException):
    """Stands for kill -9: no handler of Exception sees it."""


TRACE = "00-4bf92f3577b34da6a3ce929d0e0e47aa-00f067aa0ba902b7-00"
POINTS = [
    "orchestration.attempt.send.before_commit",
    "orchestration.attempt.send.after_commit",
    "orchestration.payment.before_send",
    "orchestration.sandbox.before_commit",
    "orchestration.sandbox.after_commit",
    "orchestration.payment.after_send",
    "orchestration.attempt.settle.before_commit",
    "orchestration.attempt.settle.after_commit",
]


@pytest.fixture
def die_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], list[str]]:
    """Let the n-th pass of a crash point raise; returns the list that says that it happened."""

    def arm(name: str, passes: int) -> list[str]:
        seen: list[str] = []
        happened: list[str] = []

        def crashpoint(at: str) -> None:
            if at == name:
                seen.append(at)
                if len(seen) == passes:
                    happened.append(at)
                    raise Died(at)

        monkeypatch.setattr(database_module, "crashpoint", crashpoint)
        monkeypatch.setattr(engine_module, "crashpoint", crashpoint)
        return happened

    return arm


async def recover(bench: Bench, payment_id: str) -> None:
    """End the lease of the dead and sweep until the payment rests."""
    for _ in range(10):
        bench.execute(
            "UPDATE orchestration.payment SET lease_until = now() - interval '1 second'"
            " WHERE tenant_id = %(tenant)s AND lease_until IS NOT NULL"
        )
        await bench.later(4)


async def start(bench: Bench, monkeypatch: pytest.MonkeyPatch, **fields: Any) -> str:
    """Store a payment without working on it; returns its id."""
    with monkeypatch.context() as patched:
        patched.setattr(Runs, "begin", lambda self, lease: None)
        return (await bench.pay(**fields)).payment_id


async def work_until_death(bench: Bench, payment_id: str) -> None:
    """Work on a payment the way CreatePayment does, in a task that may die."""
    lease = Claim(bench.tenant_id, payment_id, 1, "correlation")
    task = bench.runs.begin(lease)
    with pytest.raises(Died):
        await task


# Two steps are authorised in three attempts, and captured in two: so each point is passed five times; a refused
# connection never reaches the books.
DEATHS = [
    (point, passes)
    for point in POINTS
    for passes in (1, 2, 3, 4, 5)
    if not (point.startswith("orchestration.sandbox") and passes == 5)
]


@pytest.mark.parametrize(("point", "passes"), DEATHS)
async def test_death_at_any_point_charges_once(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    die_at: Callable[[str, int], list[str]],
    point: str,
    passes: int,
) -> None:
    await bench.configure(WALLET, CARD_WITH_FALLBACK)
    payment_id = await start(bench, monkeypatch)
    happened = die_at(point, passes)
    await work_until_death(bench, payment_id)
    assert happened
    monkeypatch.undo()
    await recover(bench, payment_id)

    payment = await bench.get(payment_id)
    assert status(payment) == "SUCCEEDED", step_statuses(payment)
    assert payment.result.total_processed.minor_units == 5684
    assert bench.net_at_processors() == 5684
    subjects = bench.subjects()
    assert subjects.count("payment.received") == 1
    assert subjects.count("payment.completed") == 1
    assert subjects.count("payment.step.succeeded") == 2


@pytest.mark.parametrize("passes", [3, 4])
@pytest.mark.parametrize("point", POINTS)
async def test_death_while_giving_back_gives_back_once(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    die_at: Callable[[str, int], list[str]],
    point: str,
    passes: int,
) -> None:
    """Three steps, the last one declined: charges are attempts 1 to 3, refunds 4 and 5."""
    await bench.configure(WALLET, CARD, ACH, **IN_TURN)
    methods = [
        {"method": "wallet", "max_amount": "10.00"},
        {"method": "card", "max_amount": "20.00"},
        {"method": "ach", "token": "tok_decline"},
    ]
    payment_id = await start(bench, monkeypatch, payment_methods=methods)
    happened = die_at(point, passes)
    await work_until_death(bench, payment_id)
    assert happened
    monkeypatch.undo()
    await recover(bench, payment_id)
    payment = await bench.get(payment_id)
    assert status(payment) == "FAILED", step_statuses(payment)
    assert payment.result.total_processed.minor_units == 0
    assert bench.net_at_processors() == 0
    subjects = bench.subjects()
    assert subjects.count("payment.failed") == 1
    assert subjects.count("payment.step.refunded") == 2
    assert "payment.received" not in subjects


async def test_death_between_storing_and_working(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.configure(CARD)
    payment_id = await start(bench, monkeypatch)
    assert status(await bench.get(payment_id)) == "PENDING"
    assert await bench.later(2) == 0, "the lease of its maker still holds"
    await recover(bench, payment_id)
    assert status(await bench.get(payment_id)) == "SUCCEEDED"
    assert bench.net_at_processors() == 5684


async def test_a_payment_that_is_continued_belongs_to_the_chain_of_its_first_call(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.configure(CARD_WITH_FALLBACK)
    principal = Principal(bench.tenant_id, "caller", frozenset({"*"}), "the-chain", "the-cause")
    metadata = (
        ("authorization", f"Mesh {MeshTokens(MESH_SECRET).issue(principal)}"),
        ("traceparent", TRACE),
    )
    with monkeypatch.context() as patched:
        patched.setattr(Runs, "begin", lambda self, lease: None)
        async with grpc.aio.insecure_channel(bench.mesh.address) as channel:
            request = bench.request()
            await PaymentServiceStub(channel).CreatePayment(request, metadata=metadata)
    for _ in range(3):
        bench.execute(
            "UPDATE orchestration.payment SET lease_until = NULL WHERE tenant_id = %(tenant)s"
        )
        await bench.later(4)
    trails = bench.rows(
        "SELECT subject, correlation_id, causation_id, traceparent FROM mesh.event"
        " WHERE tenant_id = %(tenant)s AND subject LIKE 'payment.%%'"
    )
    subjects = {row["subject"] for row in trails}
    assert {"payment.step.failed", "payment.step.succeeded", "payment.completed"} <= subjects
    assert {(row["correlation_id"], row["causation_id"]) for row in trails} == {
        ("the-chain", "the-cause")
    }
    # Unsampled stays unsampled.
    assert {row["traceparent"] for row in trails} == {TRACE}


async def test_a_payment_belongs_to_the_trace_of_its_call(bench: Bench) -> None:
    await bench.configure(CARD_WITH_FALLBACK)
    await bench.payments.CreatePayment(bench.request(), metadata=(("traceparent", TRACE),))
    found = bench.rows(
        "SELECT traceparent FROM mesh.event WHERE tenant_id = %(tenant)s AND subject LIKE 'payment.%%'"
    )
    assert len(found) >= 3
    assert {row["traceparent"] for row in found} == {TRACE}


@pytest.mark.parametrize("passes", [4, 5, 6])
@pytest.mark.parametrize(
    "point",
    [
        "orchestration.payment.before_send",
        "orchestration.payment.after_send",
        "orchestration.attempt.settle.before_commit",
    ],
)
async def test_death_around_a_refused_capture_keeps_nothing(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    die_at: Callable[[str, int], list[str]],
    point: str,
    passes: int,
) -> None:
    """Attempts 1 and 2 authorise, 3 captures, 4 is refused; 5 lets the second step go, and 6 gives the first back."""
    await bench.configure(WALLET, CARD)
    methods = [{"method": "wallet"}, {"method": "card", "token": "tok_capture_declined"}]
    payment_id = await start(bench, monkeypatch, payment_methods=methods)
    happened = die_at(point, passes)
    await work_until_death(bench, payment_id)
    assert happened
    monkeypatch.undo()
    await recover(bench, payment_id)
    payment = await bench.get(payment_id)
    assert status(payment) == "FAILED", step_statuses(payment)
    assert bench.net_at_processors() == 0
    assert payment.amounts.authorized.minor_units == 0
    subjects = bench.subjects()
    assert (subjects.count("payment.failed"), subjects.count("payment.received")) == (1, 0)


@pytest.mark.parametrize(
    "point", ["orchestration.payment.before_verify", "orchestration.payment.after_verify"]
)
async def test_death_while_asking(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    die_at: Callable[[str, int], list[str]],
    point: str,
) -> None:
    await bench.configure(CARD)
    payment_id = await start(bench, monkeypatch, method="card", token="tok_timeout")
    assert not die_at(point, 1)
    await work_until_death(bench, payment_id)
    monkeypatch.undo()
    await recover(bench, payment_id)
    payment = await bench.get(payment_id)
    assert (status(payment), step_statuses(payment)) == ("SUCCEEDED", ["SUCCEEDED"])
    assert bench.net_at_processors() == 5684


async def test_a_fault_of_ours_is_told_and_tried_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.configure(CARD)

    async def broken(self: Engine, lease: Claim, *, waited_for: bool) -> None:
        raise AssertionError("a fault of ours")

    with monkeypatch.context() as patched:
        patched.setattr(Engine, "run", broken)
        payment = await bench.pay()
    assert status(payment) == "PENDING"
    await bench.mesh.drain_events()
    (told,) = bench.rows(
        "SELECT payload FROM mesh.event WHERE tenant_id = %(tenant)s AND subject = 'contract.violated'"
    )
    assert b"mesh/invariant" in bytes(told["payload"])
    assert payment.payment_id.encode() in bytes(told["payload"])
    await recover(bench, payment.payment_id)
    assert status(await bench.get(payment.payment_id)) == "SUCCEEDED"


async def test_the_sweeper_survives_what_it_meets(
    database_url: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real sweeper, in real time: its first sweep fails, a later one takes the payment."""
    honest = DuePayments.claim
    failures: list[str] = []

    async def faulty(self: DuePayments, owner: str, limit: int) -> tuple[Sequence[Claim], bool]:
        if not failures:
            failures.append("once")
            raise ValueError("not a domain error")
        return await honest(self, owner, limit)

    built: list[tuple[Runs, Worker[Claim]]] = []

    def build(runtime: Runtime) -> Service:
        service, runs, booker, _ = bootstrap.assemble(runtime)
        built.append((runs, booker))
        return service

    monkeypatch.setattr(DuePayments, "claim", faulty)
    async with running(database_url, [build]) as mesh:
        ((runs, booker),) = built
        tenant_id = f"t-{uuid.uuid4().hex[:12]}"
        bench = Bench(mesh, runs, booker, ManualClock(START), database_url, tenant_id)
        await bench.configure(CARD)
        payment_id = await start(bench, monkeypatch)
        bench.execute(
            "UPDATE orchestration.payment SET lease_until = NULL WHERE tenant_id = %(tenant)s"
        )
        for _ in range(100):
            if status(await bench.get(payment_id)) == "SUCCEEDED":
                break
            await asyncio.sleep(0.1)
        assert failures
        assert bench.net_at_processors() == 5684


async def test_who_lost_the_lease_writes_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.configure(CARD)
    payment_id = await start(bench, monkeypatch)
    await recover(bench, payment_id)
    before = await bench.get(payment_id)
    await bench.runs.begin(Claim(bench.tenant_id, payment_id, 1, "a stale fence"))
    assert await bench.get(payment_id) == before


async def test_a_worker_that_slept_through_its_lease_sends_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stopped between the mark and the sending; another has taken over long since."""
    await bench.configure(CARD)
    payment_id = await start(bench, monkeypatch)
    times = iter([0.0, LEASE_MARGIN_MS / 1000 + 0.1])
    with monkeypatch.context() as patched:
        patched.setattr(engine_module, "monotonic", lambda: next(times))
        await bench.runs.begin(Claim(bench.tenant_id, payment_id, 1, "correlation"))
    assert step_statuses(await bench.get(payment_id)) == ["SENT"]
    assert bench.net_at_processors() == 0
    await recover(bench, payment_id)
    assert status(await bench.get(payment_id)) == "SUCCEEDED"
    assert bench.net_at_processors() == 5684


async def test_two_workers_of_which_one_is_a_zombie_charge_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The zombie has read the payment before the lease was taken from it, and goes on."""
    await bench.configure(CARD)
    payment_id = await start(bench, monkeypatch)
    zombie = bench.runs.begin(Claim(bench.tenant_id, payment_id, 0, "stale from the start"))
    await recover(bench, payment_id)
    await zombie
    assert status(await bench.get(payment_id)) == "SUCCEEDED"
    assert bench.net_at_processors() == 5684


async def test_the_database_refuses_a_second_live_attempt(bench: Bench) -> None:
    """Whatever the code does: while the first may have charged, no second attempt can be stored."""
    await bench.configure(CARD)
    payment = await bench.pay(method="card", token="tok_timeout_not_charged")
    assert step_statuses(payment) == ["UNKNOWN"]
    copy = (
        "INSERT INTO orchestration.attempt (tenant_id, attempt_id, payment_id, ordinal, step_index, number,"
        " operation, parent_id, processor_id, amount_minor, idempotency_key, status, error_code, failure_code,"
        " retryable, provider_ref, message, latency_ms, created_at, verify_count, not_found_count, verify_after)"
        " SELECT tenant_id, %(id)s, payment_id, 99, step_index, 2, operation, parent_id, 'sandbox-card-second',"
        " amount_minor, %(id)s, %(status)s, '', '', false, '', '', 0, created_at, 0, 0, now()"
        " FROM orchestration.attempt WHERE tenant_id = %(tenant)s"
    )
    for live in ("CREATED", "SENT", "UNKNOWN", "PENDING", "MANUAL", "SUCCEEDED"):
        with pytest.raises(psycopg.errors.UniqueViolation, match="one_live_taking"):
            bench.execute(copy, id=f"att_{uuid.uuid4()}", status=live)
    bench.execute(copy, id=f"att_{uuid.uuid4()}", status="DECLINED")


async def test_steps_that_do_not_sum_are_refused_by_the_database(bench: Bench) -> None:
    await bench.configure(CARD)
    payment = await bench.pay()
    with pytest.raises(psycopg.errors.CheckViolation, match="do not sum"):
        bench.execute(
            "INSERT INTO orchestration.payment SELECT (jsonb_populate_record(p, jsonb_build_object("
            "'payment_id', 'pay_other', 'request_key', gen_random_uuid()))).* FROM orchestration.payment p"
            " WHERE payment_id = %(id)s",
            id=payment.payment_id,
        )


async def test_one_sweep_takes_what_is_due_of_every_tenant(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Bench(
        bench.mesh, bench.runs, bench.booker, bench.clock, bench.urls, f"{bench.tenant_id}-b"
    )
    for each in (bench, other):
        await each.configure(CARD)
        await start(each, monkeypatch)
        each.execute(
            "UPDATE orchestration.payment SET lease_until = NULL WHERE tenant_id = %(tenant)s"
        )
    assert await bench.later(1) >= 2
    assert bench.net_at_processors() == other.net_at_processors() == 5684
