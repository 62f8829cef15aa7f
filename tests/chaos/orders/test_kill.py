"""Kill -9 of the service while it puts off what the ledger keeps it from: no payment of an order is lost."""

from __future__ import annotations

import asyncio
import signal
import time
import uuid
from collections.abc import Callable

import psycopg
import pytest

from tests.support.mesh.process import service
from tests.support.postgres.server import DatabaseUrls

TRIED_WITHIN_S = 40.0
_ORDER = (
    "INSERT INTO orders.sales_order (tenant_id, order_id, person_id, organization_id, status, currency_code,"
    " total_minor, paid_minor, created_via, notes, operator_flags, created_at)"
    " VALUES (%s, 'ord_1', 'per_1', 'org_1', 'PAID', 'USD', 5, 5, 'cli', '', '{}', now())"
)
_ACTION = (
    "INSERT INTO orders.external_action VALUES (%s, 'ext_1', 'ord_1', 'per_1', 'org_1', 'payment.received', 'cash',"
    " 'invoice_paid', 'ext_1', 'USD', 5, 'Ada', 'key', '', '', now(), now())"
)
_DUE = (
    "INSERT INTO orders.posting (tenant_id, external_action_id, due_at, created_at)"
    " VALUES (%s, 'ext_1', now(), now())"
)
_TRIES = "SELECT tries FROM orders.posting WHERE tenant_id = %s AND posted_at IS NULL"


def tries(urls: DatabaseUrls, tenant: str) -> int:
    """How often a payment was tried that is still to be posted."""
    with psycopg.connect(urls.owner_admin) as owner:
        row = owner.execute(_TRIES, [tenant]).fetchone()
    assert row is not None, "the payment is lost"
    return int(row[0])


@pytest.mark.parametrize("point", ["orders.put_off.before_commit", "orders.put_off.after_commit"])
async def test_a_payment_that_cannot_be_posted_is_tried_again_after_a_death(
    new_database: Callable[..., DatabaseUrls], point: str
) -> None:
    # Of its own: payments that other tests left would meet the crash point first.
    database = new_database()
    tenant = f"t-{uuid.uuid4().hex[:12]}"
    with psycopg.connect(database.owner_admin) as owner:
        for statement in (_ORDER, _ACTION, _DUE):
            owner.execute(statement, [tenant])
    with service(database, "services.orders", crashpoint=point) as (_, process):
        assert await asyncio.to_thread(process.wait, 40) == -signal.SIGKILL
    before = tries(database, tenant)
    assert before >= 1
    with psycopg.connect(database.owner_admin) as owner:
        owner.execute(
            "UPDATE orders.posting SET lease_until = NULL, due_at = now() WHERE tenant_id = %s",
            [tenant],
        )
    with service(database, "services.orders"):
        give_up_at = time.monotonic() + TRIED_WITHIN_S
        while tries(database, tenant) == before:
            assert time.monotonic() < give_up_at, "nobody tries it again"
            await asyncio.sleep(0.1)
    with psycopg.connect(database.owner_admin) as owner:
        owner.execute(
            "UPDATE orders.posting SET due_at = 'infinity' WHERE tenant_id = %s", [tenant]
        )
