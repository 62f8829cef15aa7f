"""A process that has loaded the whole product and forks a copy of itself for each process that a test asks for.

Most of what a start of `tollmesh up` costs is loading modules, and the suites start it some hundred times. It has one
thread and has opened nothing when it forks, so a copy is what a fresh interpreter would be after the same imports.

`python -m tests.support.processes.nursery <descriptor> <door>` takes its orders from a socket, and ends when that
closes. Programs of a shell come in by the other one, which listens; see `door`.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import ctypes
import gc
import json
import os
import runpy
import selectors
import signal
import socket
import struct
import sys
import threading
import time
from dataclasses import dataclass
from importlib import import_module, reload
from pathlib import Path

ORDER_BYTES_MAX = 1 << 20
# Of what comes back through a process's own socket: its id, then its exit code (negative for a signal).
ANSWER = struct.Struct("!i")
_PR_SET_PDEATHSIG = 1
_LOADED = (
    "uvloop",
    "services.cli.app",
    "services.cli.commands.up",
    "services.cli.start_errors",
    "services.local.mesh",
    "services.runtime.events.jetstream",
    "services.runtime.process.run",
)


@dataclass(frozen=True, slots=True)
class Order:
    """What a new process has to become.

    Attributes:
        module, arguments: as of `python -m module arguments`.
        environment: all of it.
        cwd: directory to work in.
        out, err: descriptors of standard output and standard error.
        into: descriptor of standard input; None for the nursery's, which is empty.
    """

    module: str
    arguments: list[str]
    environment: dict[str, str]
    cwd: str
    out: int
    err: int
    into: int | None = None


def load() -> None:
    """Load what every process of a mesh loads, and keep it out of all later garbage collections."""
    # As the command line sets them, before anything loads gRPC.
    os.environ |= {"GRPC_VERBOSITY": "NONE", "GRPC_ENABLE_FORK_SUPPORT": "0"}
    gc.disable()
    for name in _LOADED:
        import_module(name)
    import_module("services.local.mesh").load_services()
    assert threading.active_count() == 1, "a thread would be missing in every copy"
    assert len(list(Path("/proc/self/task").iterdir())) == 1, (
        "a thread would be missing in every copy"
    )
    gc.freeze()
    gc.enable()


class Nursery:
    """Forks a process for each order and tells how it ends.

    Args:
        orders: from the process that started it; each comes with a descriptor for its answer.
        door: programs of a shell come in by it. When such a program is killed, the process that runs in its place
            is killed too.
    """

    def __init__(self, orders: socket.socket, door: socket.socket) -> None:
        self._orders = orders
        self._door = door
        self._waiting = selectors.DefaultSelector()
        self._answers: dict[int, int] = {}
        """Of each process that runs, by its id."""

    def serve(self) -> Order | None:
        """Fork a process for each order until nobody is left to give one.

        Returns:
            In a new process what it has to become; None in the nursery itself, at its end.
        """
        # Ctrl-C is for the tests, which end their processes themselves.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with self._waiting:
            for source in (self._orders, self._door):
                self._waiting.register(source, selectors.EVENT_READ)
            while True:
                for key, _ in self._waiting.select():
                    if key.fileobj is self._orders:
                        line, descriptors = _received(self._orders)
                        if not line:
                            return None
                        answer, out, err = descriptors
                        order = Order(out=out, err=err, **json.loads(line))
                    elif key.fileobj is self._door:
                        caller, _ = self._door.accept()
                        line, descriptors = _received(caller)
                        answer = caller.detach()
                        if not line:
                            os.close(answer)
                            continue
                        into, out, err = descriptors
                        order = Order(into=into, out=out, err=err, **json.loads(line))
                    else:
                        self._look_after(key)
                        continue
                    if self._forked(order, answer):
                        return order

    def _forked(self, order: Order, answer: int) -> bool:
        """Fork a process; True in the new one."""
        if (pid := os.fork()) == 0:
            theirs = {each.fd for each in self._waiting.get_map().values()}
            for descriptor in theirs | {*self._answers.values(), answer}:
                os.close(descriptor)
            return True
        for stream in (order.out, order.err, order.into):
            if stream is not None:
                os.close(stream)
        self._answers[pid] = answer
        os.write(answer, ANSWER.pack(pid))
        self._waiting.register(os.pidfd_open(pid), selectors.EVENT_READ, pid)
        if order.into is not None:
            self._waiting.register(answer, selectors.EVENT_READ, pid)
        return False

    def _look_after(self, key: selectors.SelectorKey) -> None:
        pid = key.data
        if pid not in self._answers:
            return  # it ended in this very round
        self._waiting.unregister(key.fd)
        if key.fd == self._answers[pid]:
            # The program has gone; the end of its process is told of when it comes.
            os.kill(pid, signal.SIGKILL)
            return
        os.close(key.fd)
        answer = self._answers.pop(pid)
        if answer in self._waiting.get_map():
            self._waiting.unregister(answer)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with contextlib.suppress(BrokenPipeError):  # whoever started it may not want to know
            os.write(answer, ANSWER.pack(code))
        os.close(answer)


def _received(source: socket.socket) -> tuple[bytes, list[int]]:
    line, ancillary, _, _ = source.recvmsg(ORDER_BYTES_MAX, socket.CMSG_SPACE(3 * 4))
    descriptors = array.array("i")
    for _, _, data in ancillary:
        descriptors.frombytes(data)
    return line, list(descriptors)


def become(order: Order) -> None:
    """Run a module as `python -m` does; the interpreter ends as it would after that, but for commands of a shell."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for descriptor, standard in ((order.into, 0), (order.out, 1), (order.err, 2)):
        if descriptor is None:
            continue
        os.dup2(descriptor, standard)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(order.environment)
    time.tzset()
    os.chdir(order.cwd)
    sys.argv = [order.module, *order.arguments]
    # These read the environment when they are loaded.
    reload(import_module("services.runtime.crashpoints"))
    if order.into is not None:
        columns = os.environ.get("COLUMNS", "")
        import_module("services.cli.output").console.width = int(columns or 200)
    try:
        runpy.run_module(order.module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        # A command: taking apart what the nursery loaded would take longer than the command itself.
        if order.into is not None and isinstance(ended.code, int | None):
            threading._shutdown()  # type: ignore[attr-defined]  # as the interpreter does before the handlers
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(ended.code or 0)
        raise


if __name__ == "__main__":
    load()
    _orders, _door = (socket.socket(fileno=int(each)) for each in sys.argv[1:])
    if (_order := Nursery(_orders, _door).serve()) is not None:
        become(_order)
