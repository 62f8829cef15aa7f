"""Payments of the release before name no organisation; those of this one keep theirs whatever is reversed."""

from __future__ import annotations

import json
from collections.abc import Callable

import psycopg

from services.orchestration import codec
from services.runtime import migrations
from tests.support.postgres import DatabaseUrls

ENVIRONMENT = "services.orchestration.migrations"

_CONTEXT = {
    "merchant_id": "acme",
    "order_id": "o-1",
    "person_id": "p-1",
    "amount_minor": 0,
    "currency": "USD",
    "preferences": [],
    "metadata": {},
    "issues": [],
    "refused": True,
}
_PAYMENT = """
INSERT INTO orchestration.payment (tenant_id, payment_id, request_key, request_hash, merchant_id, order_id, person_id,
                                   currency, total_minor, context, plan_id, config_version, status, correlation_id,
                                   created_at, updated_at)
VALUES ('t', %s, gen_random_uuid(), sha256('x'), 'acme', 'o-1', 'p-1', 'USD', 0, %s, '', 0, 'REFUSED', 'c',
        now(), now())
"""


def test_payments_keep_whose_debt_they_pay(new_database: Callable[..., DatabaseUrls]) -> None:
    urls = new_database()
    with psycopg.connect(urls.owner_admin) as owner:
        # As the release before writes, while it is still running.
        owner.execute(_PAYMENT, ["pay_old", json.dumps(_CONTEXT)])
        owner.execute(_PAYMENT, ["pay_new", json.dumps(_CONTEXT | {"org_id": "org-1"})])
        owner.execute(
            "UPDATE orchestration.payment SET org_id = 'org-1' WHERE payment_id = 'pay_new'"
        )
    for _ in range(2):
        with psycopg.connect(urls.owner_admin) as owner:
            query = "SELECT payment_id, org_id, context FROM orchestration.payment ORDER BY 1"
            found = owner.execute(query).fetchall()
        assert [row[:2] for row in found] == [("pay_new", "org-1"), ("pay_old", "")]
        assert [codec.context_from_json(row[2]).org_id for row in found] == ["org-1", ""]
        migrations.downgrade(urls.owner_admin, ENVIRONMENT, "0002")
        migrations.upgrade(urls.owner_admin, [ENVIRONMENT])
