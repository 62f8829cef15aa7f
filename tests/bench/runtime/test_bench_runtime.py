"""What the pipeline costs, what an idle mesh costs, how fast a mesh is up and the main job done."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import grpc
import pytest
from payments.access.v1 import access_service_pb2, access_service_pb2_grpc

from services.local.postgres.server import EmbeddedPostgres
from services.runtime.access import MeshTokens, Principal
from services.runtime.postgres.roles import DatabaseUrls
from tests.support.measures.figures import tell
from tests.support.mesh.process import start
from tests.support.mesh.serving import MESH_SECRET

REPOSITORY = Path(__file__).parents[3]
CALLS = 6_000
ROUNDS = 5
PIPELINE_RATIO_MAX = 2.0
IDLE_SECONDS = 20.0
IDLE_CORE_MAX = 0.03
UP_SECONDS_MAX = 5.0
DEMO_SECONDS_MAX = 60.0
INGEST_SECONDS_MAX = 10.0


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    """Return a process and all that it started."""
    found = [pid]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (entry / "stat").exists():
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid:
                found += children(int(entry.name))
    return found


@contextmanager
def serving(*arguments: str) -> Iterator[tuple[int, str]]:
    """Run `serve_empty`; gives its process id and address."""
    command = [sys.executable, "-m", "tests.support.mesh.serve_empty", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as process:
        assert process.stdout is not None
        address = f"127.0.0.1:{int(process.stdout.readline())}"
        try:
            yield process.pid, address
        finally:
            process.kill()


def microseconds_a_call(pid: int, address: str, headers: list[tuple[str, str]]) -> float:
    """Return the CPU time of the server a call, one call at a time."""
    with grpc.insecure_channel(address) as channel:
        stub = access_service_pb2_grpc.AccessServiceStub(channel)
        request = access_service_pb2.ListApiKeysRequest()
        for _ in range(CALLS // 10):
            stub.ListApiKeys(request, metadata=tuple(headers), timeout=10)
        before = cpu_seconds(pid)
        for _ in range(CALLS):
            stub.ListApiKeys(request, metadata=tuple(headers), timeout=10)
        return (cpu_seconds(pid) - before) / CALLS * 1e6


def make_key(address: str) -> str:
    """Make an API key, as callers show it."""
    operator = Principal("bench", "bench", frozenset({"*", "mesh:admin"}))
    token = MeshTokens(MESH_SECRET).issue(operator)
    with grpc.insecure_channel(address) as channel:
        stub = access_service_pb2_grpc.AccessServiceStub(channel)
        request = access_service_pb2.CreateApiKeyRequest(
            request_id=str(uuid4()), name="bench", scopes=["*"]
        )
        metadata = (("authorization", f"Mesh {token}"),)
        return stub.CreateApiKey(request, metadata=metadata).secret


def test_an_empty_call_through_the_pipeline(database: DatabaseUrls) -> None:
    bare_us, piped_us = [], []
    with (
        serving("bare") as (bare_pid, bare_address),
        serving("piped", database.service, database.relay) as (pid, address),
    ):
        headers = [("authorization", f"Bearer {make_key(address)}")]
        for _ in range(ROUNDS):
            bare_us.append(microseconds_a_call(bare_pid, bare_address, headers))
            piped_us.append(microseconds_a_call(pid, address, headers))
    floor, figure = statistics.median(bare_us), statistics.median(piped_us)
    tell(
        "runtime",
        "empty unary call, all interceptors: server CPU",
        f"{figure:.0f} µs",
        floor=f"bare grpc.aio {floor:.0f} µs",
        ratio=f"{figure / floor:.2f}",
        target=f"≤ {PIPELINE_RATIO_MAX:.1f}",
    )
    assert figure <= PIPELINE_RATIO_MAX * floor


def test_an_idle_mesh(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with start(data_dir, rest=True):
        pass  # the first start makes the database
    began = time.perf_counter()
    with start(data_dir, rest=True) as mesh:
        up_seconds = time.perf_counter() - began
        time.sleep(3)  # what start-up left behind is not idleness
        processes = children(mesh.process.pid)
        before = sum(map(cpu_seconds, processes))
        time.sleep(IDLE_SECONDS)
        core = (sum(map(cpu_seconds, processes)) - before) / IDLE_SECONDS
    tell(
        "mesh",
        "idle: all services, Postgres, gateway",
        f"{core:.1%} of a core",
        target=f"< {IDLE_CORE_MAX:.0%}",
    )
    tell(
        "mesh",
        "`tollmesh up` ready, warm",
        f"{up_seconds:.1f} s",
        target=f"≤ {UP_SECONDS_MAX:.0f} s",
    )
    assert core < IDLE_CORE_MAX
    assert up_seconds <= UP_SECONDS_MAX


@pytest.mark.parametrize("run", ["first", "again"])
def test_the_main_job(run: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    data_dir = tmp_path_factory.getbasetemp() / "demo" / "data"
    data_dir.parent.mkdir(exist_ok=True)
    began = time.perf_counter()
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "services.cli",
            "demo",
            "--output",
            "json",
            "--data-dir",
            str(data_dir),
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPOSITORY,
    )
    seconds = time.perf_counter() - began
    events = json.loads(done.stdout)["events"]
    assert events["accepted" if run == "first" else "duplicate"] == 84_555
    tell("mesh", f"demo, {run} run", f"{seconds:.1f} s", target=f"≤ {DEMO_SECONDS_MAX:.0f} s")
    tell(
        "mesh",
        f"demo, {run} run: ingest of 84,555 events",
        f"{events['seconds']:.1f} s",
        target=f"≤ {INGEST_SECONDS_MAX:.0f} s",
    )
    assert seconds <= DEMO_SECONDS_MAX
    assert events["seconds"] <= INGEST_SECONDS_MAX


def test_start_of_the_embedded_postgres(tmp_path: Path) -> None:
    postgres = EmbeddedPostgres(tmp_path / "data")
    postgres.start()
    postgres.stop()
    began = time.perf_counter()
    postgres.start()
    seconds = time.perf_counter() - began
    postgres.stop()
    tell("mesh", "embedded Postgres, restart", f"{seconds:.2f} s")
