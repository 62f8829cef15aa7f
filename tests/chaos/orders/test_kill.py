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


_GRANT = (
    "INSERT INTO orders.credit_grant (tenant_id, grant_id, owner_id, unit, amount, source, priority, order_id,"
    " granted_at, effective_at, rollover_max, rollovers_left, period_days)"
    " VALUES (%s, 'gra_1', 'per_1', 'USD', 5, 'PROMOTION', 0, '', now(), now(), 0, 0, 0)"
)
_CREDITS = (
    "INSERT INTO orders.credit_account VALUES (%s, 'per_1', 'USD', now())",
    _GRANT,
    "INSERT INTO orders.credit_entry VALUES"
    " (%s, 'cre_1', 'gra_1', 'per_1', 'USD', 'PROMOTION', 'GRANTED', 5, '', '', now())",
    "INSERT INTO orders.credit_due (tenant_id, item_id, due_at, created_at)"
    " VALUES (%s, 'cre_1', now(), now())",
)
_CREDIT_TRIES = (
    "SELECT tries FROM orders.credit_due WHERE tenant_id = %s AND due_at IS NOT NULL"
    " AND posting_id IS NULL"
)


def credit_tries(urls: DatabaseUrls, tenant: str) -> int:
    """How often an entry was tried that is still to be posted."""
    with psycopg.connect(urls.owner_admin) as owner:
        row = owner.execute(_CREDIT_TRIES, [tenant]).fetchone()
    assert row is not None, "the entry is lost"
    return int(row[0])


@pytest.mark.parametrize(
    "point", ["orders.credits.put_off.before_commit", "orders.credits.put_off.after_commit"]
)
async def test_credits_that_cannot_be_posted_are_tried_again_after_a_death(
    new_database: Callable[..., DatabaseUrls], point: str
) -> None:
    database = new_database()
    tenant = f"t-{uuid.uuid4().hex[:12]}"
    with psycopg.connect(database.owner_admin) as owner:
        for statement in _CREDITS:
            owner.execute(statement, [tenant])
    with service(database, "services.orders", crashpoint=point) as (_, process):
        assert await asyncio.to_thread(process.wait, 40) == -signal.SIGKILL
    before = credit_tries(database, tenant)
    assert before >= 1
    with psycopg.connect(database.owner_admin) as owner:
        owner.execute(
            "UPDATE orders.credit_due SET lease_until = NULL, due_at = now() WHERE tenant_id = %s",
            [tenant],
        )
    with service(database, "services.orders"):
        give_up_at = time.monotonic() + TRIED_WITHIN_S
        while credit_tries(database, tenant) == before:
            assert time.monotonic() < give_up_at, "nobody tries it again"
            await asyncio.sleep(0.1)
