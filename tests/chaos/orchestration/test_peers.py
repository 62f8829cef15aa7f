"""Thousands of payments and refunds through cut connections and dying workers: none is charged twice or lost.

The peers' own books are the oracle: of one that knows no keys, and of one that can only be asked by its keys. The first
writes all that it has down at each change, and reads all of it for every question. So each small batch has a fresh one:
what is slow there looks like a fault that never heals.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

import pytest

from services.runtime.postgres.roles import DatabaseUrls
from tests.integration.orchestration.conftest import Bench, serving
from tests.support.peers.stage import PEERS, faulted

# `make chaos` makes 10,000 at each, in parts that workers share.
PAYMENTS = int(os.environ.get("TOLLMESH_FAULTED_PAYMENTS", "20"))
PARTS = 1 if PAYMENTS < 1_000 else 8
BATCHES = {"hostile": 40, "keyed": 200}


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("part", range(PARTS))
async def test_no_charge_is_made_twice_or_lost(
    database_url: DatabaseUrls, tmp_path: Path, peer: str, part: int
) -> None:
    settings: dict[str, Any] = {
        "processor_allow": "127.0.0.1",
        "processor_credentials_dir": tmp_path,
    }
    async with serving(database_url, [], **settings) as (mesh, runs, booker, clock, apply):
        first, end = (PAYMENTS * each // PARTS for each in (part, part + 1))
        batch = BATCHES[peer]
        for done in range(first, end, batch):
            tenant_id = f"t-{uuid.uuid4().hex[:12]}"
            bench = Bench(mesh, runs, booker, clock, database_url, tenant_id, apply)
            async with PEERS[peer]() as running:
                count = min(batch, end - done)
                await faulted(bench, running, tmp_path, seed=done, count=count)
