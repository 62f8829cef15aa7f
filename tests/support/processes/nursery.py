"""A process that has loaded the whole product and forks a copy of itself for each process that a test asks for.

Most of what a start of `tollmesh up` costs is loading modules, and the suites start it some hundred times. It has one
thread and has opened nothing when it forks, so a copy is what a fresh interpreter would be after the same imports.

`python -m tests.support.processes.nursery <descriptor>` takes its orders from a socket, and ends when that closes.
"""

from __future__ import annotations

import array
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
    """

    module: str
    arguments: list[str]
    environment: dict[str, str]
    cwd: str
    out: int
    err: int


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


def take_orders(orders: socket.socket) -> Order | None:
    """Fork a process for each order until nobody is left to give one.

    Returns:
        In a new process what it has to become; None in the nursery itself, at its end.
    """
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C is for the tests, which end their processes themselves
    with selectors.DefaultSelector() as waiting:
        waiting.register(orders, selectors.EVENT_READ)
        while True:
            for key, _ in waiting.select():
                if key.fileobj is not orders:
                    waiting.unregister(key.fileobj)
                    _tell_end(key.fd, *key.data)
                    continue
                line, ancillary, _, _ = orders.recvmsg(ORDER_BYTES_MAX, socket.CMSG_SPACE(3 * 4))
                if not line:
                    return None
                descriptors = array.array("i")
                for _, _, data in ancillary:
                    descriptors.frombytes(data)
                answer, out, err = descriptors
                if (pid := os.fork()) == 0:
                    for other in waiting.get_map().values():
                        os.close(other.fd)
                        if other.data:
                            os.close(other.data[1])
                    os.close(answer)
                    return Order(out=out, err=err, **json.loads(line))
                os.close(out)
                os.close(err)
                os.write(answer, ANSWER.pack(pid))
                waiting.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, answer))


def _tell_end(handle: int, pid: int, answer: int) -> None:
    os.close(handle)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(BrokenPipeError):  # whoever started it may not want to know
        os.write(answer, ANSWER.pack(code))
    os.close(answer)


def become(order: Order) -> None:
    """Run a module as `python -m` does; the interpreter ends as it would after that."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for descriptor, standard in ((order.out, 1), (order.err, 2)):
        os.dup2(descriptor, standard)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(order.environment)
    os.chdir(order.cwd)
    sys.argv = [order.module, *order.arguments]
    # It reads the environment when it is loaded.
    reload(import_module("services.runtime.crashpoints"))
    runpy.run_module(order.module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    load()
    if (_order := take_orders(socket.socket(fileno=int(sys.argv[1])))) is not None:
        become(_order)
