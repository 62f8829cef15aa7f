"""What payments keep whatever is reversed: whose debt they pay, and which request made them."""

from __future__ import annotations

import json
from collections.abc import Callable
from uuid import uuid4

import psycopg

from services.orchestration.store import codec
from services.runtime import migrations
from tests.support.postgres.server import DatabaseUrls

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
INSERT INTO orchestration.payment (tenant_id, payment_id, request_key, merchant_id, order_id, person_id,
                                   currency, total_minor, context, plan_id, config_version, status, correlation_id,
                                   created_at, updated_at)
VALUES ('t', %s, %s, 'acme', 'o-1', 'p-1', 'USD', 0, %s, '', 0, 'REFUSED', 'c',
        now(), now())
"""

_REQUEST = """
INSERT INTO mesh.idempotency (tenant_id, name, request_id, fingerprint, status, response, done_at)
VALUES ('t', 'orchestration.create_payment', %s, sha256('x'), 'DONE', convert_to(%s, 'UTF8'), now())
"""
_KEPT = """
SELECT convert_from(response, 'UTF8'), request_id, fingerprint, status FROM mesh.idempotency ORDER BY 1
"""


def test_payments_keep_whose_debt_they_pay(new_database: Callable[..., DatabaseUrls]) -> None:
    urls = new_database()
    with psycopg.connect(urls.owner_admin) as owner:
        for payment_id, context in (
            ("pay_old", _CONTEXT),
            ("pay_new", _CONTEXT | {"org_id": "org-1"}),
        ):
            request_id = uuid4()
            owner.execute(_PAYMENT, [payment_id, request_id, json.dumps(context)])
            owner.execute(_REQUEST, [request_id, payment_id])
        owner.execute(
            "UPDATE orchestration.payment SET org_id = 'org-1' WHERE payment_id = 'pay_new'"
        )
        requests = owner.execute(_KEPT).fetchall()
    for _ in range(2):
        with psycopg.connect(urls.owner_admin) as owner:
            query = "SELECT payment_id, org_id, context FROM orchestration.payment ORDER BY 1"
            found = owner.execute(query).fetchall()
            assert owner.execute(_KEPT).fetchall() == requests
        assert [row[:2] for row in found] == [("pay_new", "org-1"), ("pay_old", "")]
        assert [codec.context_from_json(row[2]).org_id for row in found] == ["org-1", ""]
        migrations.downgrade(urls.owner_admin, ENVIRONMENT, "0002")
        migrations.upgrade(urls.owner_admin, [ENVIRONMENT])
