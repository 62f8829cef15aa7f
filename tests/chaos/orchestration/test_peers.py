"""Thousands of payments through cut connections at a processor without idempotency keys: none is charged twice or lost.

The peer's own lists are the oracle. It writes all that it has down at each change, so every batch has a fresh one.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from pathlib import Path
from typing import Any

from services.runtime.postgres.roles import DatabaseUrls
from tests.integration.orchestration.conftest import Bench, serving
from tests.support.peers.cutter import Fault, at_random, cutting
from tests.support.peers.faulted import compare, keep_credential, processor, requests, rested
from tests.support.peers.localstripe import localstripe

# `make chaos` makes 10,000.
PAYMENTS = int(os.environ.get("TOLLMESH_FAULTED_PAYMENTS", "20"))
BATCH = 100
AT_ONCE = 8
STALL_SECONDS = 2.2


async def test_no_charge_is_made_twice_or_lost(database_url: DatabaseUrls, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "processor_allow": "127.0.0.1",
        "processor_credentials_dir": tmp_path,
    }
    done = 0
    async with serving(database_url, [], **settings) as (mesh, runs, booker, clock, apply):
        while done < PAYMENTS:
            bench = Bench(
                mesh, runs, booker, clock, database_url, f"t-{uuid.uuid4().hex[:12]}", apply
            )
            count = min(BATCH, PAYMENTS - done)
            await batch(bench, tmp_path, seed=done, count=count)
            done += count


async def batch(bench: Bench, folder: Path, *, seed: int, count: int) -> None:
    """Make payments at a peer of their own, heal the connections, and compare."""
    async with localstripe() as peer, cutting(peer.port, STALL_SECONDS) as (cutter, port):
        base_url = f"http://127.0.0.1:{port}"
        keep_credential(folder, bench.tenant_id, base_url)
        await bench.configure(
            *({"method": each, "processor_id": "stripe"} for each in ("card", "second_card")),
            processors=[processor(base_url)],
            timeouts={"call_timeout": {"seconds": 2}},
        )
        cutter.fault = at_random(seed, share=0.3)
        slots = asyncio.Semaphore(AT_ONCE)

        async def pay(fields: dict[str, Any]) -> str:
            async with slots:
                return str((await bench.pay(**fields)).payment_id)

        ids = await asyncio.gather(*(pay(each) for each in requests(seed, count)))
        assert cutter.done.total() > cutter.done[Fault.NONE], "something was cut"
        cutter.fault = lambda request: Fault.NONE
        payments = await rested(ids, bench.get, bench.later)
        compare(payments, peer.net_minor())
