"""What is stored of usage: told by gauges, and the same behind a dump and restore."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from payments.metering.v1 import corrections_pb2

from services.local.postgres import server as embedded
from services.metering.work.partitions import MONTHS, Partitions
from services.runtime.clock import ManualClock
from services.runtime.telemetry import Read, Silent
from tests.support.billing.metering import Catalogue, batch, event, usage_query
from tests.support.mesh.serving import running
from tests.support.postgres.server import DatabaseUrls, Server

_TABLES = ("usage_event", "usage_key", "event_version", "receipt", "receipt_counter")
_BOUNDS = "SELECT name, first_id, until_id FROM metering.usage_partitions()"
_STRAY = """
INSERT INTO metering.usage_event (event_time, event_key, fingerprint, receipt_id, source, tenant_id, org_id, project_id,
                                  sku, request_id, quantity)
VALUES (now(), gen_random_uuid(), gen_random_uuid(), 'ffffffff-ffff-7fff-bfff-ffffffffffff', 2, 't', 'chat', '',
        'calls', 'stray', 1)
"""


def dumped(urls: DatabaseUrls, into: Server, folder: Path) -> str:
    """Dump a database and restore it into a new one; returns its URL as the superuser."""
    source = psycopg.conninfo.conninfo_to_dict(urls.owner_admin)["dbname"]
    name = f"{source}_restored"
    with psycopg.connect(into.admin_url, autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}" TEMPLATE template0'.encode())
    programs, environment = embedded.programs_dir(), {**os.environ, "PGTZ": "UTC"}
    archive = str(folder / "dump")
    dump = [str(programs / "pg_dump"), "-Fc", "-f", archive, into.url(str(source))]
    subprocess.run(dump, check=True, env=environment)
    restore = [str(programs / "pg_restore"), "--exit-on-error", "-d", into.url(name), archive]
    subprocess.run(restore, check=True, env=environment)
    return into.url(name)


def rows(connection: psycopg.Connection[Any], tenant: str) -> dict[str, list[Any]]:
    """Read all that is kept of a tenant's events, and in which partition."""
    found = {
        table: connection.execute(
            f"SELECT tableoid::regclass::text, to_jsonb(r) FROM metering.{table} AS r"
            " WHERE tenant_id = %s ORDER BY to_jsonb(r)::text".encode(),
            [tenant],
        ).fetchall()
        for table in _TABLES
    }
    assert all(found.values())
    return found


async def test_a_dump_restores_events_where_they_were_and_ids_that_count_once(
    stub: Any, tenant: str, database: DatabaseUrls, postgres_server: Server, tmp_path: Path
) -> None:
    await stub.IngestEvents(batch(*(event(f"e{number}") for number in range(60))))
    await stub.CancelEvents(
        corrections_pb2.CancelEventsRequest(
            request_id=str(uuid.uuid4()), request_ids=["e1"], reason="sent twice"
        )
    )
    await stub.QueryUsage(usage_query())
    restored = dumped(database, postgres_server, tmp_path)
    with (
        psycopg.connect(database.owner_admin) as before,
        psycopg.connect(restored) as after,
    ):
        assert rows(after, tenant) == rows(before, tenant)
        bounds = before.execute(_BOUNDS).fetchall()
        assert after.execute(_BOUNDS).fetchall() == bounds
        # The next month is made, and an id is one over all.
        made = "SELECT metering.make_months(now() + interval '1 year', 1)"
        assert after.execute(made).fetchone() == (1,)
        with pytest.raises(psycopg.errors.UniqueViolation), after.transaction():
            after.execute("INSERT INTO metering.usage_key SELECT * FROM metering.usage_key")


class Observed(Silent):
    """Takes down what is observed."""

    def __init__(self) -> None:
        self.read: dict[str, Read] = {}

    def observe(self, name: str, read: Read) -> None:
        """Take down a gauge."""
        self.read[name.removeprefix("tollmesh.metering.usage_")] = read

    def value(self, name: str) -> list[float]:
        """Read a gauge."""
        return [value for value, _ in self.read[name]()]


async def test_gauges_tell_what_is_stored_and_months_are_made_ahead(
    new_database: Callable[..., DatabaseUrls], catalogue: Catalogue
) -> None:
    urls = new_database()
    with psycopg.connect(urls.owner_admin) as owner:
        for (name,) in owner.execute(
            "SELECT name FROM metering.usage_partitions() WHERE name <> 'usage_event_history'"
        ).fetchall():
            owner.execute(f"DROP TABLE metering.{name}".encode())
        owner.execute(_STRAY)
    # Business time is far away, and receipts are of the machine's.
    clock = ManualClock(datetime(2031, 1, 1, tzinfo=UTC))
    async with running(urls, [catalogue.build], clock=clock) as mesh:
        telemetry = Observed()
        partitions = Partitions(mesh.node.database, telemetry)
        assert telemetry.value("strays") == telemetry.value("bytes") == []
        await partitions.make()
        with psycopg.connect(urls.owner_admin) as owner:
            made = owner.execute(_BOUNDS).fetchall()
        assert telemetry.value("partitions") == [len(made)]
        assert len(made) in (MONTHS, MONTHS + 1), "one more where a month has begun meanwhile"
        assert telemetry.value("strays") == [1]
        (ahead,) = telemetry.value("ahead_s")
        assert timedelta(days=80) < timedelta(seconds=ahead) < timedelta(days=125)
        assert {part["part"]: size > 0 for size, part in telemetry.read["bytes"]()} == {
            "events": True,
            "ids": True,
        }
