"""Small batches that come at the same time share a transaction; each gets the answer that it would get alone."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any
from uuid import UUID

import psycopg
import pytest
from payments.metering.v1 import metering_service_pb2
from payments.metering.v1.guardrail_service_pb2_grpc import GuardrailServiceStub

from services.metering.app import metering, sharing
from services.metering.store import events as store
from tests.support.billing.guardrails import budget, put, stands
from tests.support.billing.metering import batch, event, outcomes, usage_query
from tests.support.mesh.serving import Mesh
from tests.support.postgres.server import DatabaseUrls


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many batches were stored together, group by group."""
    sizes: list[int] = []
    inner = sharing.store_together

    async def counting(commands: Any, memory: Any, shared: Any) -> Any:
        sizes.append(len(shared))
        return await inner(commands, memory, shared)

    monkeypatch.setattr(metering, "store_together", counting)
    return sizes


async def sent(
    stub: Any, *batches: metering_service_pb2.IngestEventsRequest
) -> list[metering_service_pb2.IngestEventsResponse]:
    """Send batches at once."""
    return list(await asyncio.gather(*(stub.IngestEvents(each) for each in batches)))


def told(answers: list[metering_service_pb2.IngestEventsResponse]) -> Counter[str]:
    total: Counter[str] = Counter()
    for answer in answers:
        total.update(outcomes(answer))
    return total


async def usage(stub: Any) -> dict[str, tuple[str, int]]:
    rows = (await stub.QueryUsage(usage_query())).rows
    return {row.sku: (row.value, row.event_count) for row in rows}


async def test_each_of_many_callers_has_a_receipt_of_its_own(
    mesh: Mesh, tenant: str, stub: Any, groups: list[int], database: DatabaseUrls
) -> None:
    await stub.IngestEvents(batch(event("first")))
    batches = [batch(event(f"e-{n}"), event(f"f-{n}", sku="gpu.seconds")) for n in range(40)]
    answers = await sent(stub, *batches)
    assert max(groups) > 1, "nobody shared"
    assert told(answers) == {"accepted": 80, "duplicate": 0, "conflict": 0, "rejected": 0}
    assert len({answer.receipt_id for answer in answers}) == 40
    assert await usage(stub) == {"llm.tokens": ("512.5", 41), "gpu.seconds": ("500", 40)}
    with psycopg.connect(database.owner_admin) as owner:
        receipts = owner.execute(
            "SELECT receipt_id, accepted, first_event_at = last_event_at, kind, ordinal"
            " FROM metering.receipt WHERE tenant_id = %s",
            (tenant,),
        ).fetchall()
        events = owner.execute(
            "SELECT receipt_id, count(*) FROM metering.usage_event WHERE tenant_id = %s GROUP BY 1",
            (tenant,),
        ).fetchall()
        reported = owner.execute(
            "SELECT correlation_id FROM mesh.event WHERE tenant_id = %s AND subject = 'usage.reported'",
            (tenant,),
        ).fetchall()
    ours = {UUID(answer.receipt_id.removeprefix("rcp_")) for answer in answers}
    assert {row[:4] for row in receipts if row[0] in ours} == {
        (receipt_id, 2, True, "INGEST") for receipt_id in ours
    }
    assert sorted(row[4] for row in receipts) == list(range(1, 42))
    assert {row for row in events if row[0] in ours} == {(receipt_id, 2) for receipt_id in ours}
    # A fact each, in the chain of the call that brought it.
    assert (len(reported), len(set(reported))) == (41, 41)


async def test_of_one_event_sent_by_many_one_is_accepted(stub: Any, groups: list[int]) -> None:
    same = [batch(event("a"), event(f"b-{n}")) for n in range(20)]
    other = [batch(event("a", quantity="7")) for _ in range(20)]
    answers = await sent(stub, batch(event("warm")), *same, *other)
    assert max(groups) > 1, "nobody shared"
    won = {value for value, _ in (await usage(stub)).values()}
    # 21 events of 12.5, and the one whose content was stored.
    assert won in ({"275"}, {"269.5"})
    counts = told(answers[1:])
    assert (counts["accepted"], counts["duplicate"], counts["conflict"]) == (21, 19, 20)
    again = told(await sent(stub, *same, *other))
    assert (again["accepted"], again["duplicate"], again["conflict"]) == (0, 40, 20)


async def test_an_id_twice_in_a_batch_is_judged_within_it(stub: Any) -> None:
    batches = [
        batch(event(f"e-{n}"), event(f"e-{n}"), event(f"e-{n}", quantity="1")) for n in range(10)
    ]
    answers = await sent(stub, *batches)
    assert [outcomes(answer) for answer in answers] == [
        {"accepted": 1, "duplicate": 1, "conflict": 1, "rejected": 0}
    ] * 10


async def test_what_is_refused_disturbs_nobody(stub: Any, groups: list[int]) -> None:
    await stub.IngestEvents(batch(event("warm")))
    answers = await sent(
        stub,
        *(batch(event(f"e-{n}")) for n in range(10)),
        batch(event("bad", quantity="-1")),
        batch(event("strange", sku="no.such"), event("good")),
        *(batch(event(f"f-{n}")) for n in range(10)),
    )
    assert told(answers) == {"accepted": 21, "duplicate": 0, "conflict": 0, "rejected": 2}
    assert max(groups) > 1, "nobody shared"


async def test_a_group_that_fails_is_stored_one_by_one(
    stub: Any, monkeypatch: pytest.MonkeyPatch, groups: list[int]
) -> None:
    async def failing(*_: Any) -> Any:
        raise ValueError("a fault of the group")

    await stub.IngestEvents(batch(event("warm")))
    monkeypatch.setattr(store, "store_shared", failing)
    answers = await sent(stub, *(batch(event(f"e-{n}")) for n in range(20)))
    assert groups, "nobody shared"
    assert told(answers) == {"accepted": 20, "duplicate": 0, "conflict": 0, "rejected": 0}


async def test_a_budget_counts_what_comes_at_once(mesh: Mesh, tenant: str, stub: Any) -> None:
    """A budget that is put while small batches come: each was stored before it, or is counted by it."""
    guardrails = GuardrailServiceStub(mesh.channel(tenant))
    await stub.IngestEvents(batch(event("warm", quantity="1")))
    answers, *_ = await asyncio.gather(
        sent(stub, *(batch(event(f"e-{n}", quantity="1")) for n in range(60))),
        guardrails.PutBudget(put(budget("cap", limit_quantity="1000000", sku="llm.tokens"))),
    )
    assert told(answers)["accepted"] == 60
    behind = await sent(stub, *(batch(event(f"f-{n}", quantity="1")) for n in range(20)))
    assert told(behind)["accepted"] == 20
    assert (await usage(stub))["llm.tokens"] == ("81", 81)
    assert (await stands(guardrails, "cap"))[0] == "81"
