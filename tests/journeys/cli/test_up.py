"""`tollmesh up` when its surroundings fail it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError

import pytest

from tests.support.http.rest import Rest
from tests.support.mesh.up import tollmesh_up
from tests.support.processes.forked import REPOSITORY

pytestmark = pytest.mark.xdist_group("gateway-journeys")

BACK_WITHIN_S = 20.0


def children(pid: int, name: str) -> list[int]:
    # A child belongs to the thread that made it.
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    listed = [child for task in tasks for child in task.read_text().split()]
    return [int(child) for child in listed if name_of(child) == name]


def name_of(child: str) -> str:
    try:
        return Path(f"/proc/{child}/comm").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""  # it has ended since it was listed


def answers(rest: Rest) -> bool:
    try:
        return rest.call("GET", "/readyz").status == 200
    except (URLError, ConnectionError):
        return False


def test_a_facade_that_dies_comes_back_on_its_port(tmp_path: Path) -> None:
    with tollmesh_up(tmp_path / "data") as mesh:
        (gateway,) = children(mesh.pid, "gateway\n")
        os.kill(gateway, signal.SIGKILL)
        rest = Rest(mesh.rest, mesh.api_key)
        give_up_at = time.monotonic() + BACK_WITHIN_S
        while children(mesh.pid, "gateway\n") in ([], [gateway]) or not answers(rest):
            assert time.monotonic() < give_up_at, "the facade stayed away"
            time.sleep(0.1)
        assert rest.call("GET", "/v1/billing/charges").status == 200


def test_a_port_in_use_is_said_in_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "services.cli", "up", "--data-dir", str(tmp_path / "data")]
        run = subprocess.run(
            [*command, "--grpc-port", port, "--no-rest"],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert run.returncode == 3
    assert f"cannot listen on 127.0.0.1:{port}" in run.stderr
    assert "Traceback" not in run.stderr


def test_the_key_of_a_run_that_was_killed_ends_with_the_next_start(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with tollmesh_up(data) as killed:
        assert Rest(killed.rest, killed.api_key).call("GET", "/v1/access/keys").status == 200
        os.kill(killed.pid, signal.SIGKILL)
    with tollmesh_up(data) as mesh:
        assert Rest(mesh.rest, killed.api_key).call("GET", "/v1/access/keys").status == 401
        assert Rest(mesh.rest, mesh.api_key).call("GET", "/v1/access/keys").status == 200
