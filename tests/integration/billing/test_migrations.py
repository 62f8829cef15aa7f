"""Charges of the release before get their transfers stored: those that it posted, or would have posted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import psycopg
import pytest

from services.runtime import migrations
from tests.support.postgres.server import DatabaseUrls

ENVIRONMENT = "services.billing.migrations"

_CHARGE = """
INSERT INTO billing.charge (tenant_id, charge_id, org_id, start_at, end_at, currency_code, total_minor,
                            partner_total_minor, status, plan_id, plan_version, usage_snapshot, line_count,
                            posting_round, created_at, settled_at)
VALUES ('t', %(charge_id)s, %(charge_id)s, '2026-10-01Z', '2026-11-01Z', 'USD', 0, 0,
        CASE WHEN %(settled_at)s::text IS NULL THEN 1 ELSE 2 END, 'p', 1, '1:1:', 0, %(posting_round)s, '2026-11-02Z',
        %(settled_at)s::timestamptz)
"""
_LINE = """
INSERT INTO billing.charge_line (tenant_id, charge_id, line_no, sku, project_id, quantity, exact_amount, amount_minor,
                                 partner_id, partner_pct, partner_amount_minor, proof)
VALUES ('t', %s, %s, %s, 'p', 1, 0, %s, %s, NULL, %s, '')
"""
_LARGE = """
INSERT INTO billing.charge_line (tenant_id, charge_id, line_no, sku, project_id, quantity, exact_amount, amount_minor,
                                 partner_id, partner_pct, partner_amount_minor, proof)
SELECT 't', 'chg_large', n, 'sku', 'p', 1, 1, 100, 'north', 10, 10, '' FROM generate_series(1, 2000) AS n
"""
_FOUND = """
SELECT charge_id, posting_round, transfer_no, transfer_id::text, line_no, leg, debit_account_id, debit_type,
       debit_owner, credit_account_id, credit_type, credit_owner, amount_minor, code
  FROM billing.charge_transfer WHERE tenant_id = 't' AND charge_id <> 'chg_large'
 ORDER BY charge_id, transfer_no
"""
_REVENUE_A = ("revenue:a:USD", "INCOME", "")
_REVENUE_C = ("revenue:c:USD", "INCOME", "")
_COMMISSION = ("commission:USD", "EXPENSE", "")
_PAYABLE = ("payable:partner:north:USD", "LIABILITY", "north")
_OWED = ("receivable:chg_settled:USD", "ASSET", "chg_settled")
_NEW_OWED = ("receivable:chg_new:USD", "ASSET", "chg_new")
_STUCK = ("receivable:chg_stuck:USD", "ASSET", "chg_stuck")
# Ids as the release before derived them. Line 2 is of zero; line 3 is of less than zero.
_WANTED = [
    ("chg_settled", 1, 1, "80d9b3f1-52de-5662-9a47-91a949dc2335", 1, "gross", *_OWED, *_REVENUE_A, 5015, 1001),
    ("chg_settled", 1, 2, "ba841019-bb26-5a07-9b86-6c02a9b1ca44", 1, "partner", *_COMMISSION, *_PAYABLE, 501, 1002),
    ("chg_settled", 1, 3, "83aadc60-7cdd-5b2d-abe9-8244122e450c", 3, "gross", *_REVENUE_C, *_OWED, 20, 1001),
    ("chg_settled", 1, 4, "a4bbc622-9a8e-5bb7-9a80-33a04e6de1a0", 3, "partner", *_PAYABLE, *_COMMISSION, 2, 1002),
    ("chg_stuck", 3, 1, "f3e76290-d1d9-5833-9cd2-18fd38ddb39e", 1, "gross", *_STUCK, *_REVENUE_A, 7, 1001),
]  # fmt: skip


def test_charges_of_the_release_before_get_their_transfers(
    new_database: Callable[..., DatabaseUrls],
) -> None:
    urls = new_database()
    migrations.downgrade(urls.owner_admin, ENVIRONMENT, "0001")
    with psycopg.connect(urls.owner_admin) as owner:
        for charge_id, posting_round, settled_at in (
            ("chg_settled", 1, "2026-11-02Z"),
            ("chg_stuck", 3, None),
            ("chg_empty", 1, "2026-11-02Z"),
            ("chg_large", 1, None),
        ):
            owner.execute(
                _CHARGE,
                {
                    "charge_id": charge_id,
                    "posting_round": posting_round,
                    "settled_at": settled_at,
                },
            )
        for line in (
            ("chg_settled", 1, "a", 5015, "north", 501),
            ("chg_settled", 2, "b", 0, "north", 0),
            ("chg_settled", 3, "c", -20, "north", -2),
            ("chg_stuck", 1, "a", 7, "", 0),
        ):
            owner.execute(_LINE, line)
        owner.execute(_LARGE)
    for _ in range(2):
        migrations.upgrade(urls.owner_admin, [ENVIRONMENT])
        with psycopg.connect(urls.owner_admin) as owner:
            assert owner.execute(_FOUND).fetchall() == _WANTED
            counts = "SELECT charge_id, transfer_count FROM billing.charge ORDER BY 1"
            assert owner.execute(counts).fetchall() == [
                ("chg_empty", 0),
                ("chg_large", 4000),
                ("chg_settled", 4),
                ("chg_stuck", 1),
            ]
            large = (
                "SELECT min(transfer_no), max(transfer_no), count(DISTINCT transfer_id)"
                " FROM billing.charge_transfer WHERE charge_id = 'chg_large'"
            )
            assert owner.execute(large).fetchone() == (1, 4000, 4000)
            times = "SELECT DISTINCT effective_at AT TIME ZONE 'UTC', currency_code FROM billing.charge_transfer"
            assert owner.execute(times).fetchall() == [
                (datetime(2026, 10, 31, 23, 59, 59, 999_999), "USD")  # noqa: DTZ001 # as UTC
            ]
            with pytest.raises(psycopg.errors.UndefinedColumn):
                # As the release before would, were it still running: it cannot know what was posted.
                owner.execute(_CHARGE, {"charge_id": "new", "posting_round": 1, "settled_at": None})
        migrations.downgrade(urls.owner_admin, ENVIRONMENT, "0001")
    with psycopg.connect(urls.owner_admin) as owner:
        assert owner.execute("SELECT count(*) FROM billing.charge_line").fetchone() == (2004,)


_POSTED = """
UPDATE billing.charge SET status = 2, settled_at = '2026-11-03Z', transfer_count = 2,
       posting_id = '00000000-0000-0000-0000-000000000007', recipe = 'charge', recipe_version = 1
 WHERE charge_id = 'chg_new'
"""
_POSTED_TRANSFERS = """
INSERT INTO billing.charge_transfer (tenant_id, charge_id, posting_round, transfer_no, transfer_id, line_no, leg,
                                     debit_account_id, credit_account_id, currency_code, amount_minor, code,
                                     effective_at)
SELECT 't', 'chg_new', 1, n, gen_random_uuid(), 1, leg, debit, credit, 'USD', amount, code, '2026-10-31Z'
  FROM (VALUES (1, 'gross', 'receivable:chg_new:USD', 'revenue:a:USD', 5015, 1001),
               (2, 'partner', 'payable:partner:north:USD', 'commission:USD', 501, 1002))
       AS t (n, leg, debit, credit, amount, code)
"""
_NEW = _CHARGE.replace("posting_round", "transfer_round", 1)
_CHARGES = "SELECT charge_id, status, {round}, transfer_count FROM billing.charge ORDER BY 1"


def test_charges_of_both_kinds_survive_the_way_there_and_back(
    new_database: Callable[..., DatabaseUrls],
) -> None:
    urls = new_database()
    migrations.downgrade(urls.owner_admin, ENVIRONMENT, "0002")
    with psycopg.connect(urls.owner_admin) as owner:
        for charge_id, posting_round, settled_at in (
            ("chg_settled", 1, "2026-11-02Z"),
            ("chg_stuck", 3, None),
        ):
            parameters = {
                "charge_id": charge_id,
                "posting_round": posting_round,
                "settled_at": settled_at,
            }
            owner.execute(_CHARGE, parameters)
            owner.execute(_LINE, (charge_id, 1, "a", 7, "", 0))
    migrations.upgrade(urls.owner_admin, [ENVIRONMENT])
    old = [("chg_settled", 2, 1, 1), ("chg_stuck", 1, 3, 1)]
    with psycopg.connect(urls.owner_admin) as owner:
        before = owner.execute(_FOUND).fetchall()
        assert len(before) == 2
        assert owner.execute(_CHARGES.format(round="transfer_round").encode()).fetchall() == old
        new = {"charge_id": "chg_new", "posting_round": 1, "settled_at": None}
        owner.execute(_NEW, new)
        owner.execute(_LINE, ("chg_new", 1, "a", 5015, "north", 501))

    with pytest.raises(RuntimeError, match="1 charges are not settled yet"):
        migrations.downgrade(urls.owner_admin, ENVIRONMENT, "0004")
    with psycopg.connect(urls.owner_admin) as owner:
        owner.execute(_POSTED)
        owner.execute(_POSTED_TRANSFERS)

    all_of_them = [("chg_new", 2, 1, 2), *old]
    for _ in range(2):
        migrations.downgrade(urls.owner_admin, ENVIRONMENT, "0004")
        with psycopg.connect(urls.owner_admin) as owner:
            found = owner.execute(_CHARGES.format(round="posting_round").encode()).fetchall()
            assert found == all_of_them
            rows = owner.execute(_FOUND).fetchall()
            assert rows[2:] == before
            # As the release before reads them.
            assert [row[4:] for row in rows[:2]] == [
                (1, "gross", *_NEW_OWED, *_REVENUE_A, 5015, 1001),
                (1, "partner", *_PAYABLE, *_COMMISSION, 501, 1002),
            ]
        migrations.upgrade(urls.owner_admin, [ENVIRONMENT])
        with psycopg.connect(urls.owner_admin) as owner:
            found = owner.execute(_CHARGES.format(round="transfer_round").encode()).fetchall()
            assert found == all_of_them


_ADJUSTMENT = """
UPDATE billing.charge SET kind = 2, adjusts_charge_id = 'chg_new', correction_no = 1 WHERE charge_id = 'chg_adjustment'
"""
_KINDS = "SELECT charge_id, kind, adjusts_charge_id, correction_no FROM billing.charge ORDER BY 1"


def test_corrections_of_the_release_before_have_no_ordinal(
    new_database: Callable[..., DatabaseUrls],
) -> None:
    urls = new_database()
    migrations.downgrade(urls.owner_admin, ENVIRONMENT, "0007")
    with psycopg.connect(urls.owner_admin) as owner:
        for charge_id in ("chg_adjustment", "chg_new"):
            owner.execute(_NEW, {"charge_id": charge_id, "posting_round": 1, "settled_at": None})
        owner.execute(_ADJUSTMENT)
        before = owner.execute(_KINDS).fetchall()
    for _ in range(2):
        migrations.upgrade(urls.owner_admin, [ENVIRONMENT])
        with psycopg.connect(urls.owner_admin) as owner:
            assert owner.execute(_KINDS).fetchall() == before
            ordinals = "SELECT DISTINCT usage_ordinal FROM billing.charge"
            assert owner.execute(ordinals).fetchall() == [(None,)]
            owner.execute("UPDATE billing.charge SET usage_ordinal = 3 WHERE charge_id = 'chg_new'")
        migrations.downgrade(urls.owner_admin, ENVIRONMENT, "0007")
        with psycopg.connect(urls.owner_admin) as owner:
            assert owner.execute(_KINDS).fetchall() == before


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        (_POSTED.replace("transfer_count = 2,", ""), "charge_settled_with_transfers"),
        (_POSTED.replace(", recipe = 'charge'", ""), "charge_posting"),
        (_POSTED.replace("status = 2, settled_at = '2026-11-03Z',", ""), "charge_posting_settled"),
    ],
)
def test_postgres_refuses_a_charge_that_is_half_posted(
    new_database: Callable[..., DatabaseUrls], statement: str, constraint: str
) -> None:
    urls = new_database()
    with psycopg.connect(urls.owner_admin) as owner:
        owner.execute(_NEW, {"charge_id": "chg_new", "posting_round": 1, "settled_at": None})
        with pytest.raises(psycopg.errors.CheckViolation) as refused:
            owner.execute(statement.encode())
        assert refused.value.diag.constraint_name == constraint


def test_what_is_held_under_a_dispute_keeps_the_release_before_away(
    new_database: Callable[..., DatabaseUrls],
) -> None:
    urls = new_database()
    with psycopg.connect(urls.owner_admin) as owner:
        owner.execute(_NEW, {"charge_id": "chg_new", "posting_round": 1, "settled_at": None})
        owner.execute(_LINE, ("chg_new", 1, "a", 5015, "north", 501))
        owner.execute("UPDATE billing.charge_line SET dispute_id = 'd-1'")
    with pytest.raises(RuntimeError, match="1 lines were held under disputes"):
        migrations.downgrade(urls.owner_admin, ENVIRONMENT, "0008")
    with psycopg.connect(urls.owner_admin) as owner:
        owner.execute("UPDATE billing.charge_line SET dispute_id = ''")
    migrations.downgrade(urls.owner_admin, ENVIRONMENT, "0008")
    migrations.upgrade(urls.owner_admin, [ENVIRONMENT])
    with psycopg.connect(urls.owner_admin) as owner:
        assert owner.execute("SELECT dispute_id FROM billing.charge_line").fetchall() == [("",)]


def test_what_is_taxed_keeps_the_release_before_away(
    new_database: Callable[..., DatabaseUrls],
) -> None:
    urls = new_database()
    with psycopg.connect(urls.owner_admin) as owner:
        owner.execute(_NEW, {"charge_id": "chg_new", "posting_round": 1, "settled_at": None})
        owner.execute(_LINE, ("chg_new", 1, "a", 5015, "north", 501))
        owner.execute("UPDATE billing.charge_line SET taxes = '[{}]'")
    with pytest.raises(RuntimeError, match="1 lines are taxed"):
        migrations.downgrade(urls.owner_admin, ENVIRONMENT, "0009")
    with psycopg.connect(urls.owner_admin) as owner:
        owner.execute("UPDATE billing.charge_line SET taxes = NULL")
    migrations.downgrade(urls.owner_admin, ENVIRONMENT, "0009")
    migrations.upgrade(urls.owner_admin, [ENVIRONMENT])
    with psycopg.connect(urls.owner_admin) as owner:
        assert owner.execute("SELECT taxes FROM billing.charge_line").fetchall() == [(None,)]
