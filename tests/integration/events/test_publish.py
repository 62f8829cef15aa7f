"""Publishing: with the transaction or not at all, and nobody writes what is Postgres's to give."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from payments.events.v1.pricing_events_pb2 import PlanCreated

from services.runtime.context import acting
from services.runtime.events.lanes import lane_of
from services.runtime.outbox import publish
from tests.support.events.lab import Lab, call, effects_reaction, new_tenant

_COLUMNS = (
    "tenant_id, event_id, subject, schema_version, key, message_name, payload, correlation_id, "
    "causation_id, traceparent, created_at"
)
_VALUES = "%s, 'id', 'plan.created', 1, 'k', 'm', '', '', '', '', now()"


async def _log(lab: Lab, tenant: str) -> list[dict[str, Any]]:
    return await lab.rows("SELECT * FROM mesh.event WHERE tenant_id = %s ORDER BY seq", tenant)


async def test_an_event_carries_its_trail(lab: Lab) -> None:
    who = call(new_tenant(), causation_id="cause", traceparent="00-ab-cd-01")
    with acting(who):
        async with lab.database.unit_of_work("lab.publish") as work:
            first = work.publish(PlanCreated(plan_id="p", plan_version=1))
            second = work.publish(PlanCreated(plan_id="q"), causation_id=first)
            now = work.now
    rows = await _log(lab, who.tenant_id)
    assert [row["event_id"] for row in rows] == [first, second]
    assert [row["causation_id"] for row in rows] == ["cause", first]
    assert [row["key"] for row in rows] == ["p", "q"]
    row = rows[0]
    assert (row["subject"], row["schema_version"]) == ("plan.created", 1)
    assert row["message_name"] == "payments.events.v1.PlanCreated"
    assert PlanCreated.FromString(bytes(row["payload"])) == PlanCreated(plan_id="p", plan_version=1)
    assert (row["correlation_id"], row["traceparent"]) == (who.correlation_id, "00-ab-cd-01")
    assert row["created_at"] == now


async def test_what_is_rolled_back_was_never_published(lab: Lab) -> None:
    tenant = new_tenant()
    async with lab.reacting(effects_reaction()) as backbone:
        with pytest.raises(RuntimeError, match="changed my mind"), acting(call(tenant)):
            async with lab.database.unit_of_work("lab.publish") as work:
                work.publish(PlanCreated(plan_id="gone", plan_version=1))
                await work.flush()
                raise RuntimeError("changed my mind")
        await lab.publish(tenant, "kept", 1)
        await backbone.drain()
    assert [effect.key for effect in await lab.effects(tenant)] == ["kept"]
    assert [row["key"] for row in await _log(lab, tenant)] == ["kept"]


async def test_a_batch_keeps_the_order_of_publishing(lab: Lab) -> None:
    tenant = new_tenant()
    with acting(call(tenant)):
        async with lab.database.unit_of_work("lab.publish") as work:
            for number in range(2000):
                work.publish(PlanCreated(plan_id=f"p{number * 7919 % 100}", plan_version=number))
    versions = [
        PlanCreated.FromString(bytes(r["payload"])).plan_version for r in await _log(lab, tenant)
    ]
    assert versions == list(range(2000))


async def test_one_transaction_publishes_a_bounded_number(lab: Lab) -> None:
    tenant = new_tenant()
    with pytest.raises(ValueError, match="at most 10000"), acting(call(tenant)):
        async with lab.database.unit_of_work("lab.publish") as work:
            for _ in range(publish.EVENTS_MAX + 1):
                work.publish(PlanCreated(plan_id="p"))
    assert await _log(lab, tenant) == []


async def test_an_id_is_taken_once_per_tenant(lab: Lab) -> None:
    tenant, other = new_tenant(), new_tenant()
    pending = publish.Pending("the-id", PlanCreated(plan_id="p"), "")

    async def write(who: str) -> None:
        with acting(call(who)) as acting_call:
            async with lab.database.unit_of_work("lab.publish") as work:
                session: Any = await work.raw()
                await session.run(*await publish.calls(acting_call, work.now, [pending]))

    await write(tenant)
    await write(other)
    with pytest.raises(psycopg.errors.UniqueViolation):
        await write(tenant)
    assert len(await _log(lab, tenant)) == 1


async def test_python_and_postgres_agree_on_lanes(lab: Lab) -> None:
    for tenant, key in (("demo", ""), ("demo", "pay_1"), ("t-ü", "ключ"), ("", "x")):
        found = await lab.rows("SELECT mesh.lane(%s, %s) AS lane", tenant, key)
        assert found[0]["lane"] == lane_of(tenant, key)


# ---- who may touch what


async def _as_service(lab: Lab, tenant: str, *statements: str) -> None:
    async with await psycopg.AsyncConnection.connect(lab.urls.service) as connection:
        await connection.execute("SELECT set_config('mesh.tenant', %s, true)", (tenant,))
        for statement in statements:
            await connection.execute(statement.encode(), (tenant,) if "%s" in statement else None)


async def test_a_service_may_insert_its_own_tenant_s_events(lab: Lab) -> None:
    # The proof that the refusals below are for their one difference.
    await _as_service(lab, new_tenant(), f"INSERT INTO mesh.event ({_COLUMNS}) VALUES ({_VALUES})")


@pytest.mark.parametrize(
    ("column", "value"),
    [("seq", "1"), ("xid", "'7'::xid8"), ("recorded_at", "now() - interval '1 day'")],
)
async def test_a_service_cannot_write_what_orders_events(lab: Lab, column: str, value: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await _as_service(
            lab,
            new_tenant(),
            f"INSERT INTO mesh.event ({_COLUMNS}, {column}) OVERRIDING SYSTEM VALUE "
            f"VALUES ({_VALUES}, {value})",
        )


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE mesh.event SET payload = 'x'",
        "DELETE FROM mesh.event",
        "TRUNCATE mesh.event",
        "SELECT * FROM mesh.event_default",
        "INSERT INTO mesh.feed (tenant_id, position) VALUES ('x', 1)",
        "DELETE FROM mesh.delivery",
        "UPDATE mesh.delivery SET attempts = 0",
        "SELECT * FROM mesh.tick",
        "SELECT * FROM mesh.lane_lease",
        "SELECT * FROM mesh.inbox",
        "DELETE FROM mesh.inbox",
        "DELETE FROM mesh.dead_letter",
        "INSERT INTO mesh.subscription VALUES ('x', '', true)",
        "SELECT mesh.tick()",
        "SET LOCAL ROLE NONE; SELECT nextval('mesh.event_seq_seq')",
    ],
)
async def test_a_service_cannot_reach_the_queue_or_change_the_log(lab: Lab, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await _as_service(lab, new_tenant(), statement)


async def test_a_service_cannot_publish_for_another_tenant(lab: Lab) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
        await _as_service(
            lab,
            new_tenant(),
            f"INSERT INTO mesh.event ({_COLUMNS}) VALUES ({_VALUES.replace('%s', chr(39) + 'other' + chr(39))})",
        )


@pytest.mark.parametrize(
    "statement",
    [
        f"INSERT INTO mesh.event ({_COLUMNS}) VALUES ({_VALUES.replace('%s', chr(39) + 'x' + chr(39))})",
        "UPDATE mesh.event SET payload = 'x'",
        "DELETE FROM mesh.event",
        "UPDATE mesh.feed SET position = 1",
        "DELETE FROM mesh.feed",
        "SELECT * FROM probe.effect",
        "SELECT * FROM mesh.api_key",
        "SELECT * FROM mesh.idempotency",
    ],
)
async def test_the_relay_cannot_write_the_log_nor_see_services_tables(
    lab: Lab, statement: str
) -> None:
    async with await psycopg.AsyncConnection.connect(lab.urls.relay) as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await connection.execute(statement.encode())
