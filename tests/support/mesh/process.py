"""Processes to be killed and started again: a mesh as its users run it, `tollmesh up`, and services alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from services.cli.client import Client, Session
from services.runtime.postgres.roles import DatabaseUrls
from tests.support.measures import loop_holds
from tests.support.mesh.serving import MESH_SECRET
from tests.support.processes.forked import ForkedProcess

READY_SECONDS = 60.0
DEATH_SECONDS = 60.0


@contextmanager
def service(
    urls: DatabaseUrls,
    module: str,
    *arguments: str,
    crashpoint: str = "",
    settings: Mapping[str, str] | None = None,
) -> Iterator[tuple[str, ForkedProcess]]:
    """Run a service alone until the block ends, or until it dies at its crash point.

    Its `settings` are variables of the environment. Gives the address of its server, from the end of the first line
    that it prints, and the process to wait for.
    """
    environment = {
        **os.environ,
        "TOLLMESH_DATABASE_URL": urls.service,
        "TOLLMESH_RELAY_URL": urls.relay,
        "TOLLMESH_MESH_SECRET": MESH_SECRET,
        "TOLLMESH_LISTEN": "127.0.0.1:0",
        "TOLLMESH_CRASHPOINT": crashpoint,
        **(settings or {}),
    }
    with ForkedProcess(module, *arguments, environment=environment, capture=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.strip(), f"{module} ended before it served"
            yield f"127.0.0.1:{int(line.split()[-1])}", process
        finally:
            if process.poll() is None:
                process.terminate()
                assert process.wait(30) == 0


class MeshProcess:
    """One `tollmesh up`.

    Args:
        data_dir: where it keeps its files; a second process goes on where the first one died.
        crash_at: crash point at which it kills itself, or an empty text.
        rest: whether the REST facade runs too.
        arguments: further arguments of `tollmesh up`.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        crash_at: str = "",
        rest: bool = False,
        arguments: tuple[str, ...] = (),
    ) -> None:
        self.data_dir = data_dir
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith("TOLLMESH_")
        }
        environment["TOLLMESH_CRASHPOINT"] = crash_at
        environment[loop_holds.SETTING] = os.environ.get(loop_holds.SETTING, "")
        ports = ["--grpc-port", "0", *(["--rest-port", "0"] if rest else ["--no-rest"])]
        self._errors = (data_dir.parent / f"{data_dir.name}.stderr").open("a+")
        self.process = ForkedProcess(
            *("services.cli", "up", "--output", "json"),
            *("--data-dir", str(data_dir), *ports, *arguments),
            environment=environment,
            capture=True,
            stderr=self._errors,
        )
        self.ready: dict[str, str] = {}

    def await_ready(self) -> bool:
        """Wait for the line that says where it listens; False when the process died before it."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait(DEATH_SECONDS)
            return False
        self.ready = json.loads(line)
        if "error" in self.ready:
            self.process.wait(DEATH_SECONDS)
            return False
        return True

    @property
    def session(self) -> Session:
        """Where it listens, with the operator's key of this run."""
        return Session(self.ready["grpc"], self.ready["api_key"], self.ready["rest"] or "")

    def client(self) -> Client:
        """Open a client with the operator's key."""
        return Client(self.session)

    def errors(self) -> str:
        """Return what it wrote to standard error."""
        self._errors.flush()
        self._errors.seek(0)
        return self._errors.read()

    def await_death(self, seconds: float = DEATH_SECONDS) -> int | None:
        """Wait for its end; returns its exit code, negative for a signal, None when it lives on."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        """Kill it at once, as a machine that loses power would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(DEATH_SECONDS)
        self._close()

    def stop(self) -> int:
        """Ask it to end; returns its exit code."""
        self.process.terminate()
        code = self.process.wait(DEATH_SECONDS)
        self._close()
        return code

    def _close(self) -> None:
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._errors.close()

    def __enter__(self) -> MeshProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()
        else:
            self._close()


def start(data_dir: Path, **options: object) -> MeshProcess:
    """Start a mesh and wait until it is ready.

    Raises:
        AssertionError: it did not get ready; the message is what it said.
    """
    started = MeshProcess(data_dir, **options)  # type: ignore[arg-type]
    began = time.monotonic()
    assert started.await_ready(), (
        f"no mesh after {time.monotonic() - began:.1f} s: {started.errors()}"
    )
    return started
