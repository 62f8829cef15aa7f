"""Kill -9 of the service while it puts off what another service keeps it from: nothing of it is lost."""

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
_DUE = (
    "INSERT INTO settlement.intake (tenant_id, charge_id, due_at, created_at)"
    " VALUES (%s, 'chg_1', now(), now())"
)
_TRIES = "SELECT tries FROM settlement.intake WHERE tenant_id = %s AND taken_at IS NULL"


def tries(urls: DatabaseUrls, tenant: str) -> int:
    """How often a charge was tried that is still to be taken in."""
    with psycopg.connect(urls.owner_admin) as owner:
        row = owner.execute(_TRIES, [tenant]).fetchone()
    assert row is not None, "the charge is lost"
    return int(row[0])


@pytest.mark.parametrize(
    "point", ["settlement.put_off.before_commit", "settlement.put_off.after_commit"]
)
async def test_a_charge_that_cannot_be_read_is_tried_again_after_a_death(
    new_database: Callable[..., DatabaseUrls], point: str
) -> None:
    # Of its own: charges that other tests left would meet the crash point first.
    database = new_database()
    tenant = f"t-{uuid.uuid4().hex[:12]}"
    with psycopg.connect(database.owner_admin) as owner:
        owner.execute(_DUE, [tenant])
    with service(database, "services.settlement", crashpoint=point) as (_, process):
        assert await asyncio.to_thread(process.wait, 40) == -signal.SIGKILL
    before = tries(database, tenant)
    assert before >= 1
    with psycopg.connect(database.owner_admin) as owner:
        owner.execute(
            "UPDATE settlement.intake SET lease_until = NULL, due_at = now() WHERE tenant_id = %s",
            [tenant],
        )
    with service(database, "services.settlement"):
        give_up_at = time.monotonic() + TRIED_WITHIN_S
        while tries(database, tenant) == before:
            assert time.monotonic() < give_up_at, "nobody tries it again"
            await asyncio.sleep(0.1)
    with psycopg.connect(database.owner_admin) as owner:
        owner.execute(
            "UPDATE settlement.intake SET due_at = 'infinity' WHERE tenant_id = %s", [tenant]
        )
