"""What the release before stored is what charges saw, behind the upgrade and behind the way back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import psycopg
import pytest
from payments.metering.v1 import metering_pb2

from services.runtime import migrations
from tests.support.postgres.server import DatabaseUrls

ENVIRONMENT = "services.metering.migrations"
BEFORE = "0004"
"""The release before ordinals: closings keep snapshots."""

_RECEIPT = """
INSERT INTO metering.receipt (tenant_id, receipt_id, accepted, duplicate, conflict, rejected, first_event_at,
                              last_event_at, recorded_at, recorded_by)
VALUES ('t', %(id)s, %(events)s, 0, 0, %(rejected)s, %(at)s, %(at)s, '2026-11-02Z', 'somebody')
"""
_EVENT = """
INSERT INTO metering.usage_event (event_time, event_key, fingerprint, receipt_id, source, tenant_id, org_id, project_id,
                                  sku, request_id, quantity)
VALUES ('2026-10-15Z', %(id)s, %(id)s, %(id)s, 2, 't', 'chat', 'web', 'calls', %(name)s, 1)
"""
_CLOSING = """
INSERT INTO metering.closed_period (tenant_id, charge_id, org_id, start_at, end_at, usage_snapshot, heard_snapshot,
                                    heard_at)
VALUES ('t', %s, 'chat', %s, %s, %s::pg_snapshot, %s::pg_snapshot, '2026-11-02Z')
"""
_LATE = """
INSERT INTO metering.late_event (event_time, event_key, tenant_id, org_id, charge_id)
VALUES ('2026-10-15Z', %s, 't', 'chat', 'chg_charged')
"""
_REJECTED = """
INSERT INTO metering.rejected_event (tenant_id, receipt_id, event_index, request_id, reason, message, content)
VALUES ('t', %s, 0, 'refused', 'UNKNOWN_SKU', 'none of this name', %s)
"""
_SEEN_BY_SNAPSHOT = """
SELECT p.charge_id, array_agg(e.request_id ORDER BY e.request_id)
  FROM metering.closed_period AS p
  LEFT JOIN metering.usage_event AS e
    ON e.tenant_id = p.tenant_id AND pg_visible_in_snapshot(e.recorded_xid, p.usage_snapshot)
 GROUP BY 1
"""
_SEEN_BY_ORDINAL = """
SELECT p.charge_id, array_agg(e.request_id ORDER BY e.request_id)
  FROM metering.closed_period AS p
  LEFT JOIN (SELECT event.tenant_id, event.request_id, receipt.ordinal
               FROM metering.usage_event AS event JOIN metering.receipt AS receipt USING (tenant_id, receipt_id)) AS e
    ON e.tenant_id = p.tenant_id AND e.ordinal <= p.usage_ordinal
 GROUP BY 1
"""
_SEEN = {
    "chg_early": [None],
    "chg_charged": ["a", "b", "under-way"],
    "chg_adjusted": ["a", "b", "late", "missed", "under-way"],
}
"""What each charge saw. The last one was adjusted: its closing has moved beyond where it was heard of."""


class Before:
    """A database of the release before, written to by several transactions."""

    def __init__(self, urls: DatabaseUrls) -> None:
        self.urls = urls
        self.count = 0

    def store(self, connection: psycopg.Connection[Any], name: str, rejected: int = 0) -> UUID:
        """Store a batch of one event, or of one that is rejected; not committed yet."""
        self.count += 1
        made = UUID(int=self.count)
        at = None if rejected else "2026-10-15Z"
        values = {"id": made, "name": name, "at": at, "events": 1 - rejected, "rejected": rejected}
        connection.execute(_RECEIPT, values)
        if not rejected:
            connection.execute(_EVENT, values)
        return made

    def batch(self, name: str) -> UUID:
        """Store a batch and commit it."""
        with psycopg.connect(self.urls.owner_admin) as connection:
            return self.store(connection, name)

    def snapshot(self) -> str:
        """Read what is visible now."""
        return str(self.all("SELECT pg_current_snapshot()::text")[0][0])

    def all(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Run a statement as the owner."""
        with psycopg.connect(self.urls.owner_admin) as connection:
            return connection.execute(statement.encode(), parameters).fetchall()

    def seen(self, statement: str) -> dict[str, list[str | None]]:
        """Read what each charge saw."""
        return dict(self.all(statement))

    def write(self) -> None:
        """A charge that saw nothing, one that missed what was under way, and one that was adjusted."""
        nothing = self.snapshot()
        with (
            psycopg.connect(self.urls.owner_admin) as under_way,
            psycopg.connect(self.urls.owner_admin) as later,
        ):
            self.store(under_way, "under-way")
            missed = self.store(later, "missed")
            self.batch("a")
            self.batch("b")
            under_way.commit()
            charged = self.snapshot()
            later.commit()
        late = self.batch("late")
        heard = self.snapshot()
        with psycopg.connect(self.urls.owner_admin) as connection:
            # Under way when the adjustment read usage.
            self.store(connection, "last")
            adjusted = self.snapshot()
        content = metering_pb2.UsageEvent(org_id="code", sku="cals", request_id="refused")
        with psycopg.connect(self.urls.owner_admin) as connection:
            refused = self.store(connection, "refused", rejected=1)
            connection.execute(_REJECTED, [refused, content.SerializeToString()])
            october = ("2026-10-01Z", "2026-11-01Z")
            connection.execute(
                _CLOSING, ["chg_early", "2026-08-01Z", "2026-09-01Z", nothing, heard]
            )
            connection.execute(_CLOSING, ["chg_charged", *october, charged, heard])
            connection.execute(
                _CLOSING, ["chg_adjusted", "2026-09-01Z", "2026-10-01Z", adjusted, charged]
            )
            connection.execute(_LATE, [missed])
            connection.execute(_LATE, [late])


_LATE_NOW = """
SELECT request_id, charge_id FROM metering.late_event JOIN metering.usage_event USING (tenant_id, event_key)
"""
_LATE_WANTED = [("late", "chg_charged"), ("missed", "chg_charged")]
_MAY_UPDATE = "SELECT has_column_privilege('metering.closed_period', '{}', 'UPDATE')"


def may_update(urls: DatabaseUrls, column: str) -> bool:
    """Whether the service may move a closing on."""
    with psycopg.connect(urls.service) as connection:
        row = connection.execute(_MAY_UPDATE.format(column).encode()).fetchone()
    return row == (True,)


def test_closings_keep_what_their_charges_saw_there_and_back(
    new_database: Callable[..., DatabaseUrls],
) -> None:
    urls = new_database()
    migrations.downgrade(urls.owner_admin, ENVIRONMENT, BEFORE)
    stored = Before(urls)
    stored.write()
    assert stored.seen(_SEEN_BY_SNAPSHOT) == _SEEN
    for _ in range(2):
        migrations.upgrade(urls.owner_admin, [ENVIRONMENT])
        assert stored.seen(_SEEN_BY_ORDINAL) == _SEEN
        assert sorted(stored.all(_LATE_NOW)) == _LATE_WANTED
        ordinals = stored.all("SELECT ordinal, kind FROM metering.receipt ORDER BY 1")
        assert ordinals == [(number, "INGEST") for number in range(1, stored.count + 1)]
        counter = stored.all("SELECT last_ordinal FROM metering.receipt_counter")
        assert counter == [(stored.count,)]
        told = stored.all("SELECT org_id, sku FROM metering.rejected_event")
        assert told == [("code", "cals")]
        # What was stored is rolled up behind the upgrade, from its first receipt on.
        assert stored.all("SELECT tenant_id FROM metering.unrolled('', 9)") == [("t",)]
        assert stored.all("SELECT count(*) FROM metering.usage_rollup") == [(0,)]
        assert may_update(urls, "usage_ordinal")
        migrations.downgrade(urls.owner_admin, ENVIRONMENT, BEFORE)
        assert stored.seen(_SEEN_BY_SNAPSHOT) == _SEEN
        assert sorted(stored.all(_LATE_NOW)) == _LATE_WANTED
        # As the release before does for what came late, and for an adjustment.
        assert may_update(urls, "usage_snapshot")
        name = f"later-{stored.count}"
        stored.batch(name)
        unseen = "SELECT count(*) FROM metering.usage_event, metering.closed_period WHERE request_id = %s"
        missed = f"{unseen} AND NOT pg_visible_in_snapshot(recorded_xid, usage_snapshot)"
        assert stored.all(missed, name) == [(len(_SEEN),)]


def test_corrected_usage_keeps_the_release_before_away(
    new_database: Callable[..., DatabaseUrls],
) -> None:
    urls = new_database()
    migrations.downgrade(urls.owner_admin, ENVIRONMENT, BEFORE)
    stored = Before(urls)
    stored.batch("a")
    migrations.upgrade(urls.owner_admin, [ENVIRONMENT])
    with psycopg.connect(urls.owner_admin) as owner:
        owner.execute(
            "INSERT INTO metering.event_version (event_time, event_key, fingerprint, receipt_id, version, source,"
            " cancelled, tenant_id, org_id, project_id, sku, quantity, reason)"
            " SELECT event_time, event_key, fingerprint, receipt_id, 1, source, true, tenant_id, org_id, project_id,"
            " sku, quantity, 'never happened' FROM metering.usage_event"
        )
    with pytest.raises(RuntimeError, match="amended or cancelled"):
        migrations.downgrade(urls.owner_admin, ENVIRONMENT, BEFORE)
    assert stored.all("SELECT version FROM metering.event_version") == [(1,)]


_BUCKETS = """
INSERT INTO metering.usage_rollup
       (tenant_id, generation, org_id, sku, minutes, bucket_at, series, project_id, group_values, event_count, quantity,
        smallest, largest, latest, first_event_at, last_event_at, last_ordinal)
SELECT tenant_id, 2, 'chat', 'calls', 60, '2026-10-15Z',
       encode(substr(sha256(convert_to(to_json(project_id || labels)::text, 'UTF8')), 1, 16), 'hex')::uuid,
       project_id, labels, events, quantity, smallest, largest, latest, first_at, last_at, ordinal
  FROM (VALUES ('named', 'web', '{a,NULL,NULL,NULL}'::text[], 2, 5, 1, 4, 4, '2026-10-15T00:10Z'::timestamptz,
                '2026-10-15T00:20Z'::timestamptz, 7),
               ('named', 'web', '{b,NULL,NULL,NULL}', 1, 9, 9, 9, 9, '2026-10-15T00:05Z', '2026-10-15T00:05Z', 3),
               ('named', 'web', '{c,NULL,NULL,NULL}', 0, 0, NULL, NULL, NULL, NULL, NULL, 8),
               ('plain', 'web', '{NULL,NULL,NULL,NULL}', 1, 9, 9, 9, 9, '2026-10-15T00:05Z', '2026-10-15T00:05Z', 3))
       AS bucket (tenant_id, project_id, labels, events, quantity, smallest, largest, latest, first_at, last_at,
                  ordinal)
"""
_STATES = """
INSERT INTO metering.rollup_state (tenant_id, generation, oldest_generation, rolled_ordinal, group_keys)
VALUES ('named', 2, 2, 9, '{model}'), ('plain', 2, 2, 9, '{}')
"""
_ALL_BUCKETS = "SELECT to_jsonb(r) FROM metering.usage_rollup AS r ORDER BY tenant_id, series"
_ALL_VALUES = """
SELECT tenant_id, event_count, quantity::int, smallest::int, largest::int, latest::int, last_ordinal, group_values,
       series = encode(substr(sha256(convert_to(to_json(project_id || group_values)::text, 'UTF8')), 1, 16),
                       'hex')::uuid
  FROM metering.usage_rollup WHERE NOT keyed ORDER BY 1
"""


def test_rollups_of_all_values_are_added_up_from_those_of_each_and_back(
    new_database: Callable[..., DatabaseUrls],
) -> None:
    urls = new_database()
    migrations.downgrade(urls.owner_admin, ENVIRONMENT, "0013")
    stored = Before(urls)
    with psycopg.connect(urls.owner_admin) as connection:
        connection.execute(_BUCKETS)
        connection.execute(_STATES)
    before = stored.all(_ALL_BUCKETS)
    for _ in range(2):
        migrations.upgrade(urls.owner_admin, [ENVIRONMENT])
        assert stored.all(_ALL_VALUES) == [
            ("named", 3, 14, 1, 9, 4, 8, [], True),
            ("plain", 1, 9, 9, 9, 9, 3, [], True),
        ]
        keyed = stored.all("SELECT count(*) FROM metering.usage_rollup WHERE keyed")
        assert keyed == [(3,)]
        migrations.downgrade(urls.owner_admin, ENVIRONMENT, "0013")
        assert stored.all(_ALL_BUCKETS) == before


_STORED = """
SELECT to_jsonb(event), receipt.ordinal FROM metering.usage_event AS event
  JOIN metering.receipt AS receipt USING (tenant_id, receipt_id) ORDER BY event.request_id
"""
_WHERE = "SELECT request_id, tableoid::regclass::text FROM metering.usage_event ORDER BY 1"
_KEYS = "SELECT to_jsonb(key) FROM metering.usage_key AS key ORDER BY event_key"
_KEYS_WANTED = """
SELECT jsonb_build_object('tenant_id', tenant_id, 'event_key', event_key, 'fingerprint', fingerprint,
                          'receipt_id', receipt_id)
  FROM metering.usage_event ORDER BY event_key
"""
_ORPHANS = """
SELECT version.event_key FROM metering.event_version AS version
  LEFT JOIN metering.usage_event AS event USING (tenant_id, event_key) WHERE event.event_key IS NULL
"""


def _correct_all(urls: DatabaseUrls) -> None:
    with psycopg.connect(urls.owner_admin) as owner:
        owner.execute(
            "INSERT INTO metering.event_version (event_time, event_key, fingerprint, receipt_id, version, source,"
            " cancelled, tenant_id, org_id, project_id, sku, quantity, reason)"
            " SELECT event_time, event_key, fingerprint, receipt_id, 0, source, false, tenant_id, org_id, project_id,"
            " sku, quantity, '' FROM metering.usage_event"
        )


def _rename(urls: DatabaseUrls, name: str, receipt_id: UUID) -> None:
    """Give a batch the id of another receipt."""
    with psycopg.connect(urls.owner_admin) as owner:
        for table, column in (("usage_event", "receipt_id"), ("receipt", "receipt_id")):
            owner.execute(
                f"UPDATE metering.{table} SET {column} = %s WHERE receipt_id ="
                " (SELECT event_key FROM metering.usage_event WHERE request_id = %s)".encode(),
                [receipt_id, name],
            )


def test_events_move_into_partitions_and_back_whole(
    new_database: Callable[..., DatabaseUrls],
) -> None:
    urls = new_database()
    migrations.downgrade(urls.owner_admin, ENVIRONMENT, "0014")
    stored = Before(urls)
    for name in ("a", "b", "beyond"):
        stored.batch(name)
    # An id that is not of a time.
    _rename(urls, "beyond", UUID(int=2**128 - 7))
    _correct_all(urls)
    before = stored.all(_STORED)
    assert len(before) == 3
    for _ in range(2):
        migrations.upgrade(urls.owner_admin, [ENVIRONMENT])
        assert stored.all(_STORED) == before
        assert stored.all(_KEYS) == stored.all(_KEYS_WANTED)
        assert dict(stored.all(_WHERE)) == {
            "a": "metering.usage_event_history",
            "b": "metering.usage_event_history",
            "beyond": "metering.usage_event_rest",
        }
        # What is corrected is an event that is there.
        with (
            psycopg.connect(urls.owner_admin) as owner,
            pytest.raises(psycopg.errors.ForeignKeyViolation),
        ):
            owner.execute("UPDATE metering.event_version SET event_key = gen_random_uuid()")
        migrations.downgrade(urls.owner_admin, ENVIRONMENT, "0014")
        assert stored.all(_STORED) == before
        assert stored.all(_ORPHANS) == []
        with (
            psycopg.connect(urls.owner_admin) as owner,
            pytest.raises(psycopg.errors.UniqueViolation),
        ):
            owner.execute("INSERT INTO metering.usage_event SELECT * FROM metering.usage_event")


def test_months_take_what_came_for_them_before_they_were_made(
    new_database: Callable[..., DatabaseUrls],
) -> None:
    urls = new_database()
    stored = Before(urls)
    far = "2031-05-01Z"
    with psycopg.connect(urls.owner_admin) as owner:
        for number, at in enumerate(("2031-05-31T23:59:59.999Z", "2031-06-01Z", "2031-07-15Z")):
            owner.execute(
                "INSERT INTO metering.usage_event (event_time, event_key, fingerprint, receipt_id, source, tenant_id,"
                " org_id, project_id, sku, request_id, quantity) VALUES ('2031-05-01Z', %(id)s, %(id)s,"
                " metering.receipt_from(%(at)s::timestamptz), 2, 't', 'chat', 'web', 'calls', %(name)s, 1)",
                {"id": UUID(int=number), "at": at, "name": at},
            )
    assert {name for _, name in stored.all(_WHERE)} == {"metering.usage_event_rest"}
    # Of more than may be moved nothing is.
    assert stored.all("SELECT metering.make_months(%s, 1, 0)", far) == [(0,)]
    assert stored.all("SELECT metering.make_months(%s, 2)", far) == [(2,)]
    assert stored.all("SELECT metering.make_months(%s, 2)", far) == [(0,)]
    assert dict(stored.all(_WHERE)) == {
        "2031-05-31T23:59:59.999Z": "metering.usage_event_y2031m05",
        "2031-06-01Z": "metering.usage_event_y2031m06",
        "2031-07-15Z": "metering.usage_event_rest",
    }
    parts = stored.all("SELECT name FROM metering.usage_partitions()")
    names = [name for (name,) in parts]
    assert names[0] == "usage_event_history"
    assert names[-2:] == ["usage_event_y2031m05", "usage_event_y2031m06"]
    # Nobody may read a partition past the policy of the whole.
    with psycopg.connect(urls.service) as service:
        service.execute("SELECT set_config('mesh.tenant', 'other', true)")
        assert service.execute("SELECT count(*) FROM metering.usage_event").fetchone() == (0,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            service.execute("SELECT FROM metering.usage_event_y2031m05")
