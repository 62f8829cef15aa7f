"""What a request through the facade costs beside the same by gRPC: by turns, in one run, on one mesh.

One caller, of the same process and with one open connection, makes the calls of both sides. A mesh that had a pause
before a call spends more on it, whoever calls: cores slept, or others used them. So the figures that have a target are
of calls that start at the same pace on both sides. Back to back, the time that the facade takes is such a pause, and
what the mesh then spends more is in its figures.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle
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
PACED_CALLS = 150
PACED_ROUNDS = 11
PACE_S = 0.02
PAIRS = 400
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


def latency_ms(call: Callable[[], None]) -> float:
    """How long one call takes."""
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1000


def paced(count: int, pace_s: float) -> Iterator[None]:
    """Give turns that start at a fixed pace; at once where it is 0, and later where the last one took longer."""
    due = time.perf_counter()
    for _ in range(count):
        if (early_s := due - time.perf_counter()) > 0:
            time.sleep(early_s)
        yield
        due = max(due + pace_s, time.perf_counter())


def measured(
    call: Callable[[], None], *roots: int, calls: int = CALLS, pace_s: float = 0.0
) -> tuple[float, ...]:
    """Median latency of one call and its CPU in each of some processes, all in milliseconds."""
    before = [cpu_seconds(root) for root in roots]
    latencies = [latency_ms(call) for _ in paced(calls, pace_s)]
    used = (cpu_seconds(root) - was for root, was in zip(roots, before, strict=True))
    return median(latencies), *(cpu * 1000 / calls for cpu in used)


@dataclass(frozen=True, slots=True)
class Beside:
    """Medians of rounds in which the calls of both sides took turns; CPU and latency of one call, in milliseconds.

    Attributes:
        ratio: CPU of facade, mesh and Postgres through the facade, over that of mesh and Postgres by gRPC.
        more_ms: by how much the median latency through the facade is longer.
    """

    grpc_cpu_ms: float
    mesh_cpu_ms: float
    own_cpu_ms: float
    ratio: float
    grpc_ms: float
    rest_ms: float
    more_ms: float


def beside(rounds: list[tuple[tuple[float, ...], tuple[float, ...]]]) -> Beside:
    """Compare within each round, so that what the machine does besides falls on both sides."""
    by_grpc, by_rest = ([row[side] for row in rounds] for side in range(2))
    return Beside(
        grpc_cpu_ms=median(row[1] for row in by_grpc),
        mesh_cpu_ms=median(row[1] for row in by_rest),
        own_cpu_ms=median(row[2] for row in by_rest),
        ratio=median((rest[1] + rest[2]) / grpc[1] for grpc, rest in rounds),
        grpc_ms=median(row[0] for row in by_grpc),
        rest_ms=median(row[0] for row in by_rest),
        more_ms=median(rest[0] - grpc[0] for grpc, rest in rounds),
    )


def told(found: Beside, pace: str, cpu_target: str, latency_target: str) -> None:
    """Put both figures in the table."""
    tell(
        "gateway",
        f"GET of an account through the facade, {pace}: CPU of the facade, of mesh and Postgres",
        f"{found.own_cpu_ms:.2f} + {found.mesh_cpu_ms:.2f} ms",
        floor=f"by gRPC {found.grpc_cpu_ms:.2f} ms",
        ratio=f"{found.ratio:.2f}",
        target=cpu_target,
    )
    tell(
        "gateway",
        f"GET of an account through the facade, {pace}: latency, one caller",
        f"p50 {found.rest_ms:.2f} ms",
        floor=f"by gRPC p50 {found.grpc_ms:.2f} ms",
        ratio=f"{found.more_ms:+.2f} ms",
        target=latency_target,
    )


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

            def rounds(
                count: int, calls: int, pace_s: float
            ) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
                roots = (mesh.process.pid, gateway.pid)
                sides = [
                    partial(measured, call, *roots, calls=calls, pace_s=pace_s)
                    for call in (by_grpc, by_rest)
                ]
                found = []
                for number in range(count + 1):
                    first = number % 2  # neither side always has the other's load behind it
                    row = {side: sides[side]() for side in (first, 1 - first)}
                    found.append((row[0], row[1]))
                return found[1:]  # the first warms up

            back_to_back = beside(rounds(ROUNDS, CALLS, 0.0))
            at_pace = beside(rounds(PACED_ROUNDS, PACED_CALLS, PACE_S))
            # One by one, so that each call has a neighbour of the other side in the same moments of the machine.
            turns = cycle((by_grpc, by_rest))
            latencies = [latency_ms(next(turns)) for _ in paced(2 * PAIRS, PACE_S)]
    finally:
        connection.close()
        gateway.terminate()
        gateway.wait(20)
        gateway.stdout.close()
    grpc_ms, rest_ms = median(latencies[0::2]), median(latencies[1::2])
    at_pace = replace(at_pace, grpc_ms=grpc_ms, rest_ms=rest_ms, more_ms=rest_ms - grpc_ms)
    told(at_pace, f"{1 / PACE_S:.0f} calls a second", "<= 1.3", "<= +0.3 ms")
    told(back_to_back, "back to back", "", "")
    for found in (at_pace, back_to_back):
        assert found.ratio < 2, "far off its target"
        assert found.more_ms < 3, "far off its target"
