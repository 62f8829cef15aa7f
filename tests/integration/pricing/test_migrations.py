"""Pricing's migrations, down and up again, with a catalogue that uses what is new and one that does not."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from services.runtime import migrations
from tests.support.postgres.server import DatabaseUrls

ENVIRONMENT = "services.pricing.migrations"

_OLD = """
INSERT INTO pricing.sku VALUES ('t', 'calls', '', '', 'AGGREGATION_SUM', NULL, NULL, '', '{}');
INSERT INTO pricing.plan VALUES ('t', 'p', '', '', '', 'STATUS_ACTIVE', '', 1);
INSERT INTO pricing.plan_version (tenant_id, plan_id, version, currency_code, effective_at, published_at)
VALUES ('t', 'p', 1, 'USD', '1970-01-01Z', '2026-01-01Z');
INSERT INTO pricing.plan_price (tenant_id, plan_id, version, sku, price)
VALUES ('t', 'p', 1, 'calls', '{"flat": {"amount": "1"}}');
INSERT INTO pricing.entitlement (tenant_id, org_id, effective_at, plan_id, overrides)
VALUES ('t', 'acme', '1970-01-01Z', 'p', '[]');
"""
_NEW = """
UPDATE pricing.plan_version SET proration = 'PRORATION_DAY';
UPDATE pricing.plan_price SET tax_code = 'T1';
UPDATE pricing.entitlement SET plan_version = 1;
INSERT INTO pricing.plan VALUES ('t', 'd', '', '', '', 'STATUS_DRAFT', '', 0),
                                ('t', 'o', '', '', '', 'STATUS_ARCHIVED', '', 1);
INSERT INTO pricing.plan_draft VALUES ('t', 'd', 'USD', NULL, '[]', 'PRORATION_SECOND');
INSERT INTO pricing.partner VALUES ('t', 'north', '', 'gold');
INSERT INTO pricing.partner_of_record (tenant_id, org_id, partner_id, start_at, status, dispute)
VALUES ('t', 'acme', 'north', '1970-01-01Z', 'STATUS_DISPUTED', '{"dispute_id": "d-1"}');
"""
_DISPUTES = "SELECT dispute ->> 'dispute_id' FROM pricing.partner_of_record"
_COLUMNS = """
SELECT table_name || '.' || column_name FROM information_schema.columns
 WHERE table_schema = 'pricing' AND column_name IN ('proration', 'tax_code', 'plan_version', 'stamp', 'dispute')
 ORDER BY 1
"""
_FOUND = """
SELECT v.proration, q.tax_code, e.plan_version, d.proration,
       (SELECT string_agg(p.status, ',' ORDER BY p.plan_id) FROM pricing.plan p)
  FROM pricing.plan_version v, pricing.plan_price q, pricing.entitlement e, pricing.plan_draft d
"""


def asked(urls: DatabaseUrls, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(urls.owner_admin) as owner:
        return owner.execute(query.encode()).fetchall()


def put(urls: DatabaseUrls, statements: str) -> None:
    with psycopg.connect(urls.owner_admin) as owner:
        owner.execute(statements.encode())


@pytest.mark.parametrize("revision", ["0001", "0002", "0003", "0004", "0005"])
def test_a_catalogue_that_uses_nothing_new_goes_down_and_up(
    new_database: Callable[..., DatabaseUrls], revision: str
) -> None:
    urls = new_database()
    before = asked(urls, _COLUMNS)
    put(urls, _OLD)
    migrations.downgrade(urls.owner_admin, ENVIRONMENT, revision)
    left = [name for (name,) in asked(urls, _COLUMNS)]
    assert "tax_rate.tax_code" not in left
    assert ("partner_of_record.dispute" in left) == (revision == "0005")
    assert ("catalog_stamp.stamp" in left) == (revision in ("0004", "0005"))
    assert ("plan_version.proration" in left) == (revision in ("0003", "0004", "0005"))
    assert ("entitlement.plan_version" in left) == (revision != "0001")
    put(urls, "UPDATE pricing.plan SET name = 'as before'")
    migrations.upgrade(urls.owner_admin, [ENVIRONMENT])
    assert asked(urls, _COLUMNS) == before
    assert asked(urls, "SELECT count(*) FROM pricing.plan_price") == [(1,)]
    # Writes of the tenant are noted again.
    noted = asked(urls, "SELECT stamp FROM pricing.catalog_stamp")
    put(urls, "UPDATE pricing.plan SET name = 'noted'")
    stamps = asked(urls, "SELECT stamp FROM pricing.catalog_stamp")
    assert stamps != noted
    assert revision in ("0004", "0005") or stamps == [(1,)]


def test_what_the_release_before_does_not_know_is_found_again(
    new_database: Callable[..., DatabaseUrls],
) -> None:
    urls = new_database()
    put(urls, _OLD + _NEW)
    statuses = "STATUS_DRAFT,STATUS_ARCHIVED,STATUS_ACTIVE"
    assert asked(urls, _FOUND) == [("PRORATION_DAY", "T1", 1, "PRORATION_SECOND", statuses)]
    migrations.downgrade(urls.owner_admin, ENVIRONMENT, "0001")
    # It writes as it always did.
    put(
        urls,
        "INSERT INTO pricing.entitlement (tenant_id, org_id, effective_at, plan_id, overrides) "
        "VALUES ('t', 'beta', '1970-01-01Z', 'p', '[]'); DELETE FROM pricing.entitlement WHERE org_id = 'beta'",
    )
    migrations.upgrade(urls.owner_admin, [ENVIRONMENT])
    statuses = "STATUS_DRAFT,STATUS_DEPRECATED,STATUS_ACTIVE"
    assert asked(urls, _FOUND) == [("PRORATION_DAY", "T1", 1, "PRORATION_SECOND", statuses)]
    assert asked(urls, _DISPUTES) == [("d-1",)]


def test_a_tax_table_is_not_gone_back_from(new_database: Callable[..., DatabaseUrls]) -> None:
    urls = new_database()
    put(urls, "INSERT INTO pricing.tax_policy VALUES ('t', 'CA', 'TAX_MISSING_REFUSE', '')")
    with pytest.raises(RuntimeError, match="1 tax rates, profiles and policies"):
        migrations.downgrade(urls.owner_admin, ENVIRONMENT, "0005")
    assert asked(urls, "SELECT country FROM pricing.tax_policy") == [("CA",)]
