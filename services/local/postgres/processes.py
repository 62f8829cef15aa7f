"""Waiting for processes of a Postgres server, our own and those that an earlier supervisor left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

FAST_STOP_WITHIN_S = 20.0
IMMEDIATE_STOP_WITHIN_S = 5.0

_POLL_S = 0.01


class ServerStuck(Exception):
    """Processes of an earlier server do not end."""


def end(process: subprocess.Popen[bytes]) -> None:
    """Stop a postmaster: fast and clean, else at once, at last by force."""
    for number, seconds in (
        (signal.SIGINT, FAST_STOP_WITHIN_S),
        (signal.SIGQUIT, IMMEDIATE_STOP_WITHIN_S),
        (signal.SIGKILL, None),
    ):
        process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
            return


async def exited(process: subprocess.Popen[bytes]) -> None:
    """Wait until a child ended, without a thread and without polling.

    One that ended before, and whom somebody waited for already, is no process any more: its id may be another's.
    """
    if process.poll() is not None:
        return
    loop = asyncio.get_running_loop()
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        process.wait()  # another thread saw its end just now
        return
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
        process.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def settle(cluster: Path) -> None:
    """Wait until no process of an earlier server works in the cluster any more, for a bounded time.

    Whoever holds the lock is the only supervisor; a server that is still there lost its own and is
    shutting down. One that hangs is told to stop at once, at last killed: what it had not
    committed is rolled back by recovery, and two servers on one cluster would destroy it.

    Raises:
        ServerStuck: a process cannot be ended.
    """
    for number, seconds in (
        (signal.SIGINT, FAST_STOP_WITHIN_S),
        (signal.SIGQUIT, IMMEDIATE_STOP_WITHIN_S),
        (signal.SIGKILL, IMMEDIATE_STOP_WITHIN_S),
    ):
        left = _processes_in(cluster)
        if not left:
            return
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        give_up_at = time.monotonic() + seconds
        while _processes_in(cluster) and time.monotonic() < give_up_at:
            time.sleep(_POLL_S)
    if left := _processes_in(cluster):
        raise ServerStuck(f"processes {left} of an earlier server in {cluster} do not stop")


def _processes_in(cluster: Path) -> list[int]:
    """Processes whose working directory is the cluster: every process of its server, and no other."""
    try:
        wanted = cluster.stat()
    except FileNotFoundError:
        return []
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            there = (entry / "cwd").stat()
            is_postgres = (entry / "comm").read_text(encoding="utf-8").startswith("postgres")
            if is_postgres and (there.st_dev, there.st_ino) == (wanted.st_dev, wanted.st_ino):
                found.append(int(entry.name))
    return found
