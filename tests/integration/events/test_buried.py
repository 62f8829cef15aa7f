"""A buried event is a broken contract, told in the transaction that buried it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from payments.events.v1.monitoring_events_pb2 import ContractViolated

from services.runtime.context import acting
from services.runtime.contracts import DEAD_LETTER, MESH
from services.runtime.database import UnitOfWork
from services.runtime.events.envelope import Envelope, Reaction
from services.runtime.outbox.facts import VIOLATED
from tests.support.events.lab import QUICK, Lab, call, lab_alone, new_tenant
from tests.support.postgres.server import Server

DRAIN_SECONDS = 20

_NOBODY_PUBLISHES = """
DO $$
BEGIN
  EXECUTE (SELECT format('REVOKE INSERT (event_id) ON mesh.event FROM %I',
                         replace(pg_get_userbyid(nspowner), '_owner', '_service'))
             FROM pg_namespace WHERE nspname = 'mesh');
END $$
"""


@pytest.fixture
async def lab(postgres_server: Server) -> AsyncIterator[Lab]:
    """A lab of each test's own: what one does to the log must not concern the next."""
    async with lab_alone(postgres_server) as lab:
        yield lab


async def refuse(work: UnitOfWork, envelope: Envelope) -> None:
    """Handle nothing."""
    raise RuntimeError("out of order")


async def run(lab: Lab, *reactions: Reaction) -> None:
    """Handle all that there is."""
    async with asyncio.timeout(DRAIN_SECONDS), lab.reacting(*reactions) as backbone:
        await backbone.drain()


async def test_a_buried_event_is_told_to_its_tenant_s_monitor(lab: Lab) -> None:
    tenant = new_tenant()
    (event_id,) = await lab.publish(tenant, "k", 1)
    await run(lab, Reaction("lab.refuses", ("plan.created",), refuse, retry=QUICK))
    (told,) = await lab.rows("SELECT * FROM mesh.event WHERE subject = %s", VIOLATED)
    (cause,) = await lab.rows("SELECT * FROM mesh.event WHERE event_id = %s", event_id)
    fact = ContractViolated.FromString(bytes(told["payload"]))
    assert told["tenant_id"] == tenant
    assert (fact.contract_id, fact.severity) == (DEAD_LETTER, "CRITICAL")
    assert fact.subject_id == told["causation_id"] == event_id
    assert told["correlation_id"] == cause["correlation_id"]
    assert fact.message == (
        f"lab.refuses gave up on plan.created {event_id}: RuntimeError: out of order"
    )
    (letter,) = await lab.rows("SELECT xmin::text, event_id FROM mesh.dead_letter")
    assert letter == {"xmin": str(told["xid"]), "event_id": event_id}, "one transaction"


async def test_a_consumer_that_may_skip_raises_a_lesser_alarm(lab: Lab) -> None:
    await lab.publish(new_tenant(), "k", 1)
    await run(lab, Reaction("lab.skips", ("plan.created",), refuse, retry=QUICK, on_dead="skip"))
    (told,) = await lab.rows("SELECT * FROM mesh.event WHERE subject = %s", VIOLATED)
    assert ContractViolated.FromString(bytes(told["payload"])).severity == "HIGH"


async def test_a_report_that_is_buried_is_not_reported(lab: Lab) -> None:
    tenant = new_tenant()
    with acting(call(tenant)):
        async with lab.database.unit_of_work("lab.violate") as work:
            work.violation("lab/any", "LOW", "first of a chain")
    await run(lab, Reaction("lab.monitor", (VIOLATED,), refuse, retry=QUICK))
    (letter,) = await lab.rows("SELECT * FROM mesh.dead_letter")
    assert letter["attempts"] == 4
    (only,) = await lab.rows("SELECT * FROM mesh.event WHERE subject = %s", VIOLATED)
    assert only["event_id"] == letter["event_id"]


async def test_an_event_is_buried_even_when_nobody_can_be_told(lab: Lab) -> None:
    tenant = new_tenant()
    (event_id,) = await lab.publish(tenant, "k", 1)
    await lab.publish(tenant, "other", 1)
    # From here on nobody can publish.
    await lab.rows(_NOBODY_PUBLISHES)
    await run(lab, Reaction("lab.refuses", ("plan.created",), refuse, retry=QUICK))
    letters = await lab.rows("SELECT * FROM mesh.dead_letter ORDER BY event_id")
    assert len(letters) == 2
    assert {letter["attempts"] for letter in letters} == {4}
    assert event_id in {letter["event_id"] for letter in letters}
    assert await lab.rows("SELECT 1 FROM mesh.event WHERE subject = %s", VIOLATED) == []


def test_the_contract_monitor_knows_the_contract() -> None:
    assert DEAD_LETTER in {contract.contract_id for contract in MESH}
