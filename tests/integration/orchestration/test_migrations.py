"""What payments keep whatever is reversed: whose debt they pay, which request made them, what is booked of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC
from uuid import uuid4

import psycopg

from services.ledger import manifest as ledger
from services.orchestration.store import codec
from services.runtime import migrations
from tests.support.billing import books
from tests.support.postgres.server import DatabaseUrls

from .conftest import CARD, IN_TURN, WALLET, Bench, serving

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


LEDGER = "services.ledger.migrations"
_WAITING = """
SELECT b.attempt_id, b.earlier, b.payment_id FROM orchestration.booking b WHERE b.due_at IS NOT NULL ORDER BY b.due_at
"""
_HANDLED = """
SELECT f.subject FROM mesh.inbox i JOIN mesh.feed f USING (tenant_id, event_id)
 WHERE i.consumer = 'ledger.payments' ORDER BY f.subject
"""
# As the reaction of the release before leaves them, in the midst of its work.
_REACTION = (
    "INSERT INTO mesh.consumer (consumer) VALUES ('ledger.payments')",
    "INSERT INTO mesh.subscription VALUES ('ledger.payments', 'payment.received', false)",
    "INSERT INTO mesh.lane_lease (consumer, lane) VALUES ('ledger.payments', 7)",
    "INSERT INTO mesh.parked_key VALUES ('t', 'ledger.payments', 7, 'pay_1')",
    "INSERT INTO mesh.back_fill (consumer, texts, prefixes, last_position) VALUES ('ledger.payments', '{}', '{}', 1)",
    "INSERT INTO mesh.delivery (consumer, lane, position, tenant_id, key, event_id, recorded_at)"
    " SELECT 'ledger.payments', lane, position, tenant_id, key, event_id, recorded_at FROM mesh.feed",
    "INSERT INTO mesh.dead_letter (tenant_id, consumer, event_id, generation, lane, position, key, recorded_at,"
    " attempts, last_error)"
    " SELECT tenant_id, 'ledger.payments', event_id, 0, lane, position, key, recorded_at, 4, 'x' FROM mesh.feed",
)
_OF_REACTION = " UNION ALL ".join(
    f"SELECT count(*) AS n FROM mesh.{table} WHERE consumer = 'ledger.payments'"
    for table in (
        "consumer",
        "subscription",
        "lane_lease",
        "parked_key",
        "back_fill",
        "delivery",
        "dead_letter",
    )
)


async def test_what_is_booked_is_booked_once_however_often_the_releases_change(
    new_database: Callable[..., DatabaseUrls],
) -> None:
    urls = new_database()
    async with serving(urls, [ledger.SERVICE]) as (mesh, runs, booker, clock, _):
        shop = Bench(mesh, runs, booker, clock, urls, "t")
        await shop.configure(WALLET, CARD, **IN_TURN)
        payment = await shop.pay()
        await booker.sweep()
        await mesh.drain_events()
    charged = [attempt.attempt_id for attempt in payment.attempts]

    migrations.downgrade(urls.owner_admin, ENVIRONMENT, "0007")
    migrations.downgrade(urls.owner_admin, LEDGER, "0009")
    with psycopg.connect(urls.owner_admin) as owner:
        # Else the reaction of the release before would book it again.
        handled = [row[0] for row in owner.execute(_HANDLED).fetchall()]
        assert handled == ["payment.received", "payment.step.succeeded", "payment.step.succeeded"]
        for statement in _REACTION:
            owner.execute(statement.encode())
        counted = owner.execute(f"SELECT min(n) FROM ({_OF_REACTION}) AS c".encode()).fetchone()
        assert counted is not None and counted[0] >= 1

    migrations.upgrade(urls.owner_admin, [LEDGER, ENVIRONMENT])
    with psycopg.connect(urls.owner_admin) as owner:
        left = owner.execute(f"SELECT sum(n) FROM ({_OF_REACTION}) AS c".encode()).fetchone()
        assert left == (0,)
        waiting = owner.execute(_WAITING).fetchall()
        assert waiting == [(attempt_id, True, payment.payment_id) for attempt_id in charged]
    async with serving(urls, [ledger.SERVICE]) as (_, _, booker, _, _):
        await booker.sweep()
    with psycopg.connect(urls.owner_admin) as owner:
        assert owner.execute(_WAITING).fetchall() == []
        assert books.differences(books.read(owner, "t")) == []


async def test_what_a_process_of_the_release_before_settles_waits_to_be_booked(
    new_database: Callable[..., DatabaseUrls],
) -> None:
    urls = new_database()
    async with serving(urls, []) as (mesh, runs, booker, clock, _):
        shop = Bench(mesh, runs, booker, clock, urls, "t")
        await shop.configure(WALLET)
        payment = await shop.pay(amount="5.00")
        (attempt,) = payment.attempts
        shop.execute("DELETE FROM orchestration.booking")
        shop.execute("UPDATE orchestration.attempt SET status = 'SENT'")
        assert shop.rows("SELECT FROM orchestration.booking") == []
        # As it does: it knows of no bookings.
        shop.execute("UPDATE orchestration.attempt SET status = 'SUCCEEDED'")
        (row,) = shop.rows(
            "SELECT attempt_id, earlier, due_at, booked_at FROM orchestration.booking"
        )
        assert (row["attempt_id"], row["earlier"], row["booked_at"]) == (
            attempt.attempt_id,
            True,
            None,
        )
        assert row["due_at"] == attempt.settled_at.ToDatetime(UTC)
