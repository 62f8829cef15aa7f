"""The facade lives and dies with its mesh."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.http.rest import Rest, binary
from tests.support.mesh.up import tollmesh_up

pytestmark = pytest.mark.xdist_group("gateway-journeys")

GONE_WITHIN_S = 10.0


def await_gone(url: str) -> None:
    """Wait until nothing listens there any more."""
    host, _, port = urlsplit(url).netloc.partition(":")
    give_up_at = time.monotonic() + GONE_WITHIN_S
    while time.monotonic() < give_up_at:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except ConnectionRefusedError:
            return
        time.sleep(0.05)
    raise AssertionError(f"{url} still listens")


def test_the_facade_ends_when_the_mesh_is_killed(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with tollmesh_up(data) as mesh:
        assert Rest(mesh.rest).call("GET", "/readyz").status == 200
        os.kill(mesh.pid, signal.SIGKILL)
        await_gone(mesh.rest)
    with tollmesh_up(data) as mesh:
        assert Rest(mesh.rest, mesh.api_key).call("GET", "/v1/billing/charges").status == 200


def test_an_open_tail_does_not_hold_up_the_end(tmp_path: Path) -> None:
    with tollmesh_up(tmp_path / "data") as mesh:
        rest = Rest(mesh.rest, mesh.api_key)
        ended = threading.Event()

        def tail() -> None:
            rest.call("GET", "/v1/events:tail")
            ended.set()

        threading.Thread(target=tail, daemon=True).start()
        time.sleep(0.5)
        assert not ended.is_set()
        os.kill(mesh.pid, signal.SIGTERM)
        await_gone(mesh.rest)
        assert ended.wait(GONE_WITHIN_S)


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        run = subprocess.run(
            [binary(), "--listen", listen], capture_output=True, text=True, timeout=20, check=False
        )
    assert run.returncode == 1
    assert run.stdout == ""
    assert f"cannot listen on {listen}: the port is in use" in run.stderr
