"""The REST facade as a child process: found, built when it is missing and Go is there, started, stopped."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from services.local.errors import GatewayNotStarted, GatewayUnfit
from services.local.postgres.processes import exited

ROOT = Path(__file__).resolve().parents[2]
BINARY = ROOT / "build" / "gateway"
# Where a wheel has it.
PACKAGED = Path(__file__).with_name("bin") / "gateway"
SOURCE = ROOT / "services" / "gateway"
# Names another program.
SETTING = "TOLLMESH_GATEWAY"
START_SECONDS = 15.0
VERSION_SECONDS = 30.0
STOP_SECONDS = 10.0


def find() -> Path | None:
    """Return the gateway's program: the one that TOLLMESH_GATEWAY names, a wheel's, or what was built; else None."""
    chosen = os.environ.get(SETTING)
    if chosen:
        return Path(chosen)
    return next((path for path in (PACKAGED, BINARY) if path.exists()), None)


def version(program: Path) -> str:
    """Return the version that a gateway's program tells.

    Raises:
        OSError: it does not run.
        subprocess.SubprocessError: it ended with an error, or does not end.
    """
    run = subprocess.run(  # noqa: S603 - our own program
        [str(program), "--version"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=VERSION_SECONDS,
        check=True,
    )
    return run.stdout.strip()


async def find_or_build() -> Path | None:
    """Return the gateway's program, building it when it is missing; None without Go, or when it cannot be built.

    A build takes up to minutes, in which a mesh that serves already goes on serving.
    """
    built = find()
    if built is not None:
        return built
    go = await asyncio.to_thread(_go)
    if go is None or not SOURCE.is_dir():
        return None
    sys.stderr.write("Building the REST facade (only once) ...\n")
    try:
        said = await _build(go)
    except OSError as error:  # an installation that is not ours to write to
        said = str(error)
    if said:
        sys.stderr.write(f"the REST gateway could not be built:\n{said}\n")
        return None
    return BINARY


async def _build(go: str) -> str:
    """Build the program; returns what went wrong, empty when nothing did."""
    BINARY.parent.mkdir(exist_ok=True)
    # Moved to its place whole: a build that is cut short leaves nothing that would be run.
    new = BINARY.with_name(f"{BINARY.name}.{os.getpid()}")
    building = await asyncio.create_subprocess_exec(
        *(go, "build", "-buildvcs=false", "-o", str(new), "."),
        cwd=SOURCE,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        # A group of its own: the compiler's children end with it.
        start_new_session=True,
    )
    try:
        _, said = await building.communicate()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(building.pid, signal.SIGTERM)
        await building.wait()
        raise
    if building.returncode != 0:
        return said.decode(errors="replace")[-2000:] or f"exit code {building.returncode}"
    new.replace(BINARY)
    return ""


class Gateway:
    """A running gateway. It watches its parent and ends by itself when that is gone.

    Raises:
        GatewayUnfit: its program cannot be run.
        GatewayNotStarted: it does not listen.
    """

    def __init__(self, program: Path, listen: str, grpc_address: str) -> None:
        self._program, self._grpc_address = program, grpc_address
        arguments = ("--listen", listen, "--grpc", grpc_address, "--exit-with-parent")
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [str(program), *arguments],
                stdout=subprocess.PIPE,
                # Its complaints go where ours go: a pipe that nobody empties would block it one day.
                stderr=None,
            )
        except OSError as error:
            setting = SETTING if os.environ.get(SETTING) else ""
            raise GatewayUnfit(program, error.strerror or str(error), setting) from error
        self.address = self._await_listening(listen)

    def _await_listening(self, listen: str) -> str:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], START_SECONDS)
        line = self._process.stdout.readline() if ready else ""
        if not line:
            self.stop()
            raise GatewayNotStarted(listen)
        address: str = json.loads(line)["listen"]
        return address

    async def ended(self) -> None:
        """Wait until it ended, by itself or by `stop`."""
        await exited(self._process)

    def again(self) -> Gateway:
        """Start another one in the place of one that ended.

        Raises:
            GatewayUnfit: its program cannot be run any more.
            GatewayNotStarted: it does not listen.
        """
        return Gateway(self._program, self.address, self._grpc_address)

    def stop(self) -> None:
        """Ask it to finish what runs, and end it when it does not."""
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _go() -> str | None:
    # The wheel that tools/go_toolchain.py installs where there is no Go.
    bundled = next(ROOT.glob(".tools/lib/python*/site-packages/go/bin/go"), None)
    return shutil.which("go") or (str(bundled) if bundled else None)
