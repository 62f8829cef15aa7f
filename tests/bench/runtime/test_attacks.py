"""What another tenant's call takes while a mesh is attacked, against a quiet mesh in the same run."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import quantiles
from typing import Any
from uuid import uuid4

import grpc
import pytest
from payments.access.v1 import access_service_pb2, access_service_pb2_grpc

from services.runtime.processes import tied_to_parent
from tests.support.http.rest import Rest
from tests.support.measures.figures import tell
from tests.support.mesh.attacks import ATTACKS
from tests.support.mesh.up import Running, tollmesh_up

CALLS = 300
SETTLES_S = 3.0


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with tollmesh_up(tmp_path_factory.mktemp("attacked") / "data") as running:
        yield running


def latencies_ms(call: Callable[[], Any]) -> tuple[float, float]:
    """Return p50 and p99 of a call made again and again, in milliseconds."""
    taken = []
    for _ in range(CALLS):
        began = time.perf_counter()
        call()
        taken.append((time.perf_counter() - began) * 1000)
    cuts = quantiles(taken, n=100)
    return cuts[49], cuts[98]


@pytest.mark.parametrize("attack", sorted(ATTACKS))
def test_others_are_answered_while_a_mesh_is_attacked(mesh: Running, attack: str) -> None:
    head = (("authorization", f"Bearer {mesh.api_key}"),)
    request = access_service_pb2.ListApiKeysRequest(page_size=1)
    with grpc.insecure_channel(mesh.grpc) as channel:
        stub: Any = access_service_pb2_grpc.AccessServiceStub(channel)
        create = access_service_pb2.CreateApiKeyRequest(
            request_id=str(uuid4()), name=attack, scopes=["*"], tenant_id="attacker"
        )
        key = stub.CreateApiKey(create, metadata=head).secret
        rest = Rest(mesh.rest, mesh.api_key)
        kinds = {
            "gRPC": lambda: stub.ListApiKeys(request, metadata=head, timeout=30),
            "REST": lambda: _sound(rest.call("GET", "/v1/access/keys?page_size=1").status),
        }
        quiet = {kind: latencies_ms(call) for kind, call in kinds.items()}
        before = _memory_mib(mesh.pid)
        command = [sys.executable, "-m", "tests.support.mesh.attacks", attack, mesh.grpc, mesh.rest]
        attacker = subprocess.Popen(
            tied_to_parent([*command, key]), stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        try:
            time.sleep(SETTLES_S)
            under = {kind: latencies_ms(call) for kind, call in kinds.items()}
            memory = _memory_mib(mesh.pid)
            assert attacker.poll() is None, "the attack has ended by itself"
        finally:
            attacker.kill()
            attacker.communicate()
    for kind, (p50, p99) in under.items():
        quiet_p50, quiet_p99 = quiet[kind]
        tell(
            "availability",
            f"{attack}: another's {kind} call, p50 and p99",
            f"{p50:.1f}, {p99:.1f} ms",
            floor=f"{quiet_p50:.1f}, {quiet_p99:.1f} ms",
            ratio=f"{p50 / quiet_p50:.1f}, {p99 / quiet_p99:.1f}",
            target="p99 ≤ 2",
        )
    tell("availability", f"{attack}: memory of the mesh", f"{memory} MiB", floor=f"{before} MiB")


def _sound(status: int) -> None:
    assert status == 200


def _memory_mib(pid: int) -> int:
    """Return what a process holds, its children aside."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) // 1024
    raise LookupError(f"process {pid} says nothing of its memory")
