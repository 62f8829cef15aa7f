"""Starts a module of ours as a process, at a third of what `python -m` costs; see `nursery`."""

from __future__ import annotations

import array
import asyncio
import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, TextIO

from tests.support.processes.nursery import ANSWER

REPOSITORY = Path(__file__).parents[3]
READY_SECONDS = 120.0


class _Nursery:
    """This process's nursery, started with the first order."""

    def __init__(self) -> None:
        self._orders: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def order(self, line: bytes, descriptors: Sequence[int]) -> None:
        self._be_there()
        assert self._orders is not None
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
        self._orders.sendmsg([line], [rights])

    def door(self) -> Path:
        """Return the address of the socket by which programs of a shell come in."""
        self._be_there()
        assert self._folder is not None
        return Path(self._folder.name) / "door"

    def _be_there(self) -> None:
        if self._process is None or self._process.poll() is not None:
            self._start()

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._folder = tempfile.TemporaryDirectory(prefix="nursery-")
        door.bind(f"{self._folder.name}/door")
        door.listen()
        with theirs, door:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "tests.support.processes.nursery"),
                    *(str(theirs.fileno()), str(door.fileno())),
                ],
                cwd=REPOSITORY,
                env={k: v for k, v in os.environ.items() if not k.startswith("TOLLMESH_")},
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno(), door.fileno()],
            )
        self._orders = ours
        atexit.register(self._end)

    def _end(self) -> None:
        assert self._orders is not None
        assert self._process is not None
        assert self._folder is not None
        self._orders.close()
        self._process.wait()
        self._folder.cleanup()


_nursery = _Nursery()

_PROGRAM = (Path(__file__).parent / "door.py").read_text(encoding="utf-8")


def program(module: str) -> Path:
    """Return a program that runs a module in this process's nursery, for shells and `subprocess`.

    The module gets the program's arguments, environment, folder, standard streams and signals, and the program ends as
    it does.
    """
    door = _nursery.door()
    file = door.with_name(module)
    if not file.exists():
        settings = {"_DOOR": str(door), "_MODULE": module, "_ANSWER": ANSWER.format}
        filled = _PROGRAM
        for name, value in settings.items():
            filled = filled.replace(f'{name} = ""', f"{name} = {value!r}")
        # Without `site`, which takes longer than all the rest.
        file.write_text(f"#!{sys.executable} -IS\n{filled}", encoding="utf-8")
        file.chmod(0o755)
    return file


class ForkedProcess:
    """A module that runs as a process of its own, to be used as a `subprocess.Popen`.

    It is sent SIGTERM if the process that started it is gone.

    Args:
        module: as of `python -m`.
        arguments: of the module.
        environment: all of it; None for ours.
        capture: whether what it prints can be read from `stdout`.
        stderr: where it writes errors; ours unless given.
        cwd: directory to work in.
    """

    def __init__(
        self,
        module: str,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        capture: bool = False,
        stderr: IO[str] | None = None,
        cwd: Path = REPOSITORY,
    ) -> None:
        order = {
            "module": module,
            "arguments": arguments,
            "environment": dict(os.environ if environment is None else environment),
            "cwd": str(cwd),
        }
        self.returncode: int | None = None
        self.stdout: TextIO | None = None
        self._answers, theirs = socket.socketpair()
        readable, writable = os.pipe() if capture else (-1, os.dup(1))
        try:
            with theirs:
                errors = stderr.fileno() if stderr else 2
                _nursery.order(json.dumps(order).encode(), [theirs.fileno(), writable, errors])
        finally:
            os.close(writable)
        if capture:
            self.stdout = os.fdopen(readable)
        self._answers.settimeout(READY_SECONDS)
        pid = self._answer()
        assert pid is not None, "the process that forks others has died"
        self.pid = pid

    def _answer(self) -> int | None:
        read = self._answers.recv(ANSWER.size)
        return int(ANSWER.unpack(read)[0]) if read else None

    def poll(self) -> int | None:
        """Return its exit code, None while it runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; returns its exit code, negative for a signal.

        Raises:
            subprocess.TimeoutExpired: it runs still.
        """
        if self.returncode is None:
            self._answers.settimeout(timeout)
            try:
                code = self._answer()
            except (BlockingIOError, TimeoutError) as error:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0) from error
            assert code is not None, "the process that forks others has died"
            self.returncode = code
            self._answers.close()
        return self.returncode

    async def ended(self, seconds: float) -> int:
        """Wait for its end without holding the loop.

        Raises:
            subprocess.TimeoutExpired: it runs still.
        """
        return await asyncio.to_thread(self.wait, seconds)

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it is known to have ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> ForkedProcess:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if self.stdout is not None:
            self.stdout.close()
        self.wait()
