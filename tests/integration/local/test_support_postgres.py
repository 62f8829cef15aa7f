"""The server that the workers of a test run share: started once, gone with the last of them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import pytest

from tests.support.postgres import server as postgres

# Joins, says where, and stays until its input ends.
WORKER = """
import sys
from tests.support.postgres import server as postgres
server, _ = postgres.join(sys.argv[1])
print(server.admin_url, flush=True)
sys.stdin.read()
"""


def worker(run_id: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, run_id],
        cwd=postgres.REPOSITORY,
        env={**os.environ, "TOLLMESH_TEST_SERVICES": "none"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def told(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def is_removed(folder: Path) -> bool:
    give_up_at = time.monotonic() + 30
    while folder.exists() and time.monotonic() < give_up_at:
        time.sleep(0.05)
    return not folder.exists()


def test_workers_share_one_server_that_goes_with_the_last() -> None:
    run_id = uuid.uuid4().hex[:12]
    folder = Path(tempfile.gettempdir(), f"tollmesh-tests-{os.geteuid()}-{run_id}")
    with worker(run_id) as first, worker(run_id) as second:
        url = told(first)
        assert url.startswith("postgresql://")
        assert told(second) == url
        first.kill()
        first.wait()
        with worker(run_id) as third:  # joins while the second still holds the server
            assert told(third) == url
            third.kill()
        second.kill()
    assert is_removed(folder)
    with worker(run_id) as again:
        assert told(again) != url
        again.kill()
    assert is_removed(folder)


def test_a_server_that_cannot_start_fails_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = uuid.uuid4().hex[:12]
    folder = Path(tempfile.gettempdir(), f"tollmesh-tests-{os.geteuid()}-{run_id}")
    folder.mkdir(mode=0o700)
    (folder / "data").write_text("in the way")
    with pytest.raises(RuntimeError, match="not a directory"):
        postgres.join(run_id)
    assert is_removed(folder)
