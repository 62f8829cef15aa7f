"""What one call costs, in the checkout that this runs in: a program, so that two builds can be set side by side.

Starts a mesh, makes calls of one kind from so many callers for so many seconds, waits until every reaction has run, and
prints a line of JSON for each kind: calls a second, p50 and p99 in ms, CPU ms a call of the mesh and of its Postgres.
It uses nothing of the checkout but the command line and the schemas of release 0.1.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import grpc
from google.protobuf.json_format import ParseDict
from payments.ledger.v1 import ledger_pb2, ledger_service_pb2, ledger_service_pb2_grpc
from payments.metering.v1 import metering_pb2, metering_service_pb2, metering_service_pb2_grpc
from payments.orchestration.v1 import (
    orchestration_service_pb2,
    orchestration_service_pb2_grpc,
)
from payments.pricing.v1 import catalog_service_pb2, catalog_service_pb2_grpc
from payments.type.v1.type_pb2 import Money

ACCOUNTS = 1000
SETTLE_SECONDS = 1.5
SETTLE_SECONDS_MAX = 60.0
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")

Call = Callable[[], Awaitable[Any]]


class Cpu(NamedTuple):
    """CPU seconds so far."""

    mesh: float
    postgres: float


def _processes() -> dict[int, tuple[int, str, float]]:
    """Return parent, name and CPU seconds of every process."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            name, _, rest = (folder / "stat").read_text().partition(" (")[2].rpartition(") ")
        except OSError:
            continue
        fields = rest.split()
        found[int(folder.name)] = (
            int(fields[1]),
            name,
            (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND,
        )
    return found


def cpu_of(pid: int) -> Cpu:
    """Return what a mesh's own process and its Postgres have used."""
    processes = _processes()

    def belongs(process: int) -> bool:
        while process > 1:
            if process == pid:
                return True
            process = processes[process][0] if process in processes else 0
        return False

    postgres = sum(
        used
        for number, (_, name, used) in processes.items()
        if name.startswith("postgres") and belongs(number)
    )
    return Cpu(processes[pid][2], postgres)


async def settled(pid: int) -> Cpu:
    """Wait until the reactions have run: until little CPU is used any more."""
    until = time.monotonic() + SETTLE_SECONDS_MAX
    before = cpu_of(pid)
    while True:
        await asyncio.sleep(SETTLE_SECONDS)
        now = cpu_of(pid)
        if sum(now) - sum(before) < 0.1 * SETTLE_SECONDS or time.monotonic() > until:
            return now
        before = now


async def measured(pid: int, name: str, call: Call, callers: int, seconds: float) -> None:
    """Make calls from so many callers at once, and print what one costs."""
    latencies: list[float] = []
    await call()
    before, began = cpu_of(pid), time.monotonic()

    async def caller() -> None:
        while (now := time.monotonic()) < began + seconds:
            await call()
            latencies.append(time.monotonic() - now)

    await asyncio.gather(*(caller() for _ in range(callers)))
    took_s = time.monotonic() - began
    after = await settled(pid)
    latencies.sort()
    count = len(latencies)
    row = {
        "what": name,
        "callers": callers,
        "calls_a_second": count / took_s,
        "p50_ms": latencies[count // 2] * 1e3,
        "p99_ms": latencies[int(count * 0.99)] * 1e3,
        "mesh_cpu_ms": (after.mesh - before.mesh) / count * 1e3,
        "postgres_cpu_ms": (after.postgres - before.postgres) / count * 1e3,
    }
    sys.stdout.write(f"{json.dumps(row)}\n")
    sys.stdout.flush()


class Caller:
    """Makes the calls.

    Args:
        channel: to the mesh.
        api_key: of its operator.
    """

    def __init__(self, channel: grpc.aio.Channel, api_key: str) -> None:
        self._metadata = (("authorization", f"Bearer {api_key}"),)
        self._ledger: Any = ledger_service_pb2_grpc.LedgerServiceStub(channel)
        self._metering: Any = metering_service_pb2_grpc.MeteringServiceStub(channel)
        self._payments: Any = orchestration_service_pb2_grpc.PaymentServiceStub(channel)
        self._merchants: Any = orchestration_service_pb2_grpc.MerchantConfigServiceStub(channel)
        self._catalog: Any = catalog_service_pb2_grpc.CatalogServiceStub(channel)

    async def prepare(self) -> None:
        """Make accounts, a SKU and a merchant."""
        accounts = [
            ledger_pb2.Account(
                account_id=f"a{number}", currency_code="USD", type=ledger_pb2.ACCOUNT_TYPE_ASSET
            )
            for number in range(ACCOUNTS)
        ]
        made = ledger_service_pb2.CreateAccountsRequest(accounts=accounts)
        await self._ledger.CreateAccounts(made, metadata=self._metadata)
        catalog = {
            "request_id": str(uuid.uuid4()),
            "catalog": {"skus": [{"sku": "u", "unit": "u"}]},
        }
        applied = ParseDict(catalog, catalog_service_pb2.ApplyCatalogRequest())
        await self._catalog.ApplyCatalog(applied, metadata=self._metadata)
        method = {"method": "card", "processor_id": "sandbox-card"}
        config = {"merchant_id": "m", "methods": [method]}
        put = {"request_id": str(uuid.uuid4()), "config": config}
        await self._merchants.PutMerchantConfig(
            ParseDict(put, orchestration_service_pb2.PutMerchantConfigRequest()),
            metadata=self._metadata,
        )

    async def transfer(self) -> None:
        """Post one transfer."""
        debit, credit = random.sample(range(ACCOUNTS), 2)
        transfer = ledger_pb2.Transfer(
            transfer_id=str(uuid.uuid4()),
            debit_account_id=f"a{debit}",
            credit_account_id=f"a{credit}",
            amount=Money(currency_code="USD", minor_units=5),
        )
        request = ledger_service_pb2.PostTransfersRequest(transfers=[transfer])
        await self._ledger.PostTransfers(request, metadata=self._metadata)

    async def event(self) -> None:
        """Ingest one usage event."""
        event = metering_pb2.UsageEvent(
            request_id=str(uuid.uuid4()), org_id="o", project_id="p", sku="u", quantity="1"
        )
        event.event_time.GetCurrentTime()
        request = metering_service_pb2.IngestEventsRequest(events=[event])
        await self._metering.IngestEvents(request, metadata=self._metadata)

    async def payment(self) -> None:
        """Make one payment, which the sandbox approves."""
        body = {"merchant_id": "m", "amount": "5.00", "currency": "USD", "method": "card"}
        sent = json.dumps(body | {"order_id": uuid.uuid4().hex, "person_id": "x"}).encode()
        request = orchestration_service_pb2.CreatePaymentRequest(
            request_id=str(uuid.uuid4()), raw_request=sent
        )
        await self._payments.CreatePayment(request, metadata=self._metadata)

    async def account(self) -> None:
        """Read one account."""
        request = ledger_service_pb2.GetAccountRequest(account_id="a7")
        await self._ledger.GetAccount(request, metadata=self._metadata)


async def main(callers: int, seconds: float) -> None:
    """Start a mesh and measure each kind of call."""
    with tempfile.TemporaryDirectory(prefix="call-cost-") as folder:
        command = [sys.executable, "-m", "services.cli", "up", "--data-dir", folder, "--no-rest"]
        command += ["--grpc-port", "0", "--output", "json"]
        process = await asyncio.create_subprocess_exec(
            *command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        try:
            assert process.stdout is not None
            ready = json.loads(await process.stdout.readline())
            async with grpc.aio.insecure_channel(ready["grpc"]) as channel:
                caller = Caller(channel, ready["api_key"])
                await caller.prepare()
                for name, call in (
                    ("one transfer", caller.transfer),
                    ("one event", caller.event),
                    ("one payment", caller.payment),
                    ("one account read", caller.account),
                ):
                    await measured(process.pid, name, call, callers, seconds)
        finally:
            process.send_signal(signal.SIGTERM)
            await process.wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
