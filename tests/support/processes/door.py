"""Text of a program that has a nursery run a module in its place; `forked.program` fills in the three names.

It loads next to nothing: it is started once for each command of a page.
"""

from __future__ import annotations

import array
import json
import os
import signal
import socket
import struct
import sys

_DOOR = ""
_MODULE = ""
_ANSWER = ""


def main() -> None:
    """Run the module and end as it does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as nursery:
        nursery.connect(_DOOR)
        order = {
            "module": _MODULE,
            "arguments": sys.argv[1:],
            "environment": dict(os.environ),
            "cwd": os.getcwd(),  # noqa: PTH109 - pathlib takes longer to load than all that is here
        }
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))
        nursery.sendmsg([json.dumps(order).encode()], [rights])
        pid = _number(nursery)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda number, _: os.kill(pid, number))
        code = _number(nursery)
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    # Nothing of its own is left to be written.
    os._exit(code)


def _number(nursery: socket.socket) -> int:
    read = nursery.recv(16)
    assert read, "the process that forks others has died"
    return int(struct.unpack(_ANSWER, read)[0])


if __name__ == "__main__":
    main()
