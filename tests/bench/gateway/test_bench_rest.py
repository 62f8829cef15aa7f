"""What a request through the facade costs beside the same by gRPC: by turns, in one run, on one mesh."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import pytest
from payments.ledger.v1 import ledger_pb2, ledger_service_pb2, ledger_service_pb2_grpc

from services.runtime.processes import tied_to_parent
from tests.support.http.rest import binary
from tests.support.measures.figures import tell
from tests.support.mesh.process import MeshProcess, start

CALLS = 400
ROUNDS = 7
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[MeshProcess]:
    """A mesh as its users run it, with one account."""
    with start(tmp_path / "data") as running:
        with running.client() as client:
            stub = client.stub(ledger_service_pb2_grpc.LedgerServiceStub)
            account = ledger_pb2.Account(
                account_id="cash:USD", currency_code="USD", type=ledger_pb2.ACCOUNT_TYPE_ASSET
            )
            client.call(
                stub.CreateAccounts, ledger_service_pb2.CreateAccountsRequest(accounts=[account])
            )
        yield running


def cpu_seconds(root: int) -> float:
    """CPU that a process used so far, with everything that it started and that still runs."""
    parents: dict[int, tuple[int, float]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text().rpartition(") ")[2].split()
        except OSError:
            continue  # it ended meanwhile
        parents[int(folder.name)] = (int(stat[1]), (int(stat[11]) + int(stat[12])) * TICK_S)
    counted = {root}
    grown = True
    while grown:
        more = {pid for pid, (parent, _) in parents.items() if parent in counted} - counted
        counted |= more
        grown = bool(more)
    return sum(parents[pid][1] for pid in counted if pid in parents)


def measured(call: Callable[[], None], *roots: int) -> tuple[float, ...]:
    """Median latency of one call and its CPU in each of some processes, all in milliseconds."""
    before = [cpu_seconds(root) for root in roots]
    latencies = []
    for _ in range(CALLS):
        started = time.perf_counter()
        call()
        latencies.append(time.perf_counter() - started)
    used = (cpu_seconds(root) - was for root, was in zip(roots, before, strict=True))
    return median(latencies) * 1000, *(cpu * 1000 / CALLS for cpu in used)


def test_a_request_through_the_facade(mesh: MeshProcess) -> None:
    session = mesh.session
    arguments = ["--listen", "127.0.0.1:0", "--grpc", mesh.ready["grpc"]]
    gateway = subprocess.Popen(tied_to_parent([binary(), *arguments]), stdout=subprocess.PIPE)
    assert gateway.stdout is not None
    address = json.loads(gateway.stdout.readline())["listen"]
    connection = http.client.HTTPConnection(address, timeout=20)
    try:
        headers = {"Authorization": f"Bearer {session.api_key}"}

        def by_rest() -> None:
            connection.request("GET", "/v1/ledger/accounts/cash:USD", headers=headers)
            answer = connection.getresponse()
            content = answer.read()
            assert answer.status == 200, content

        with mesh.client() as client:
            stub = client.stub(ledger_service_pb2_grpc.LedgerServiceStub)
            request = ledger_service_pb2.GetAccountRequest(account_id="cash:USD")

            def by_grpc() -> None:
                client.call(stub.GetAccount, request)

            roots = (mesh.process.pid, gateway.pid)
            rounds = [
                (measured(by_grpc, *roots), measured(by_rest, *roots)) for _ in range(ROUNDS + 1)
            ][1:]  # the first warms up
    finally:
        connection.close()
        gateway.terminate()
        gateway.wait(20)
        gateway.stdout.close()
    grpc_ms, grpc_cpu_ms, _ = (median(row[0][i] for row in rounds) for i in range(3))
    rest_ms, mesh_cpu_ms, own_cpu_ms = (median(row[1][i] for row in rounds) for i in range(3))
    ratio, more_ms = (mesh_cpu_ms + own_cpu_ms) / grpc_cpu_ms, rest_ms - grpc_ms
    tell(
        "gateway",
        "GET of an account through the facade: CPU of the facade, of mesh and Postgres",
        f"{own_cpu_ms:.2f} + {mesh_cpu_ms:.2f} ms",
        floor=f"by gRPC {grpc_cpu_ms:.2f} ms",
        ratio=f"{ratio:.2f}",
        target="<= 1.3",
    )
    tell(
        "gateway",
        "GET of an account through the facade: latency, one caller",
        f"p50 {rest_ms:.2f} ms",
        floor=f"by gRPC p50 {grpc_ms:.2f} ms",
        ratio=f"+{more_ms:.2f} ms",
        target="<= +0.3 ms",
    )
    assert ratio < 2, "far off its target"
    assert more_ms < 3, "far off its target"
