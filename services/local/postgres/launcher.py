"""Starts one program of Postgres: drops privileges, ties the child's life to its parent's, execs.

Run as a script of its own, `python -I -S launcher.py PARENT_PID UID GID CAPABILITY PROGRAM ARG…`,
because doing this between fork and exec of a process with threads can deadlock. It imports nothing of ours.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_SET_SECUREBITS = 28
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
# linux/securebits.h
_SECBIT_NO_SETUID_FIXUP = 1 << 2
# linux/capability.h
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapData(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def _prctl(option: int, *arguments: int) -> None:
    # Variadic: each argument must be as wide as a long, or its upper half is garbage.
    padded = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]]
    if _libc.prctl(ctypes.c_int(option), *padded) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option} failed")


def _keep_only(capability: int) -> None:
    """Reduce the process to one capability and let the program that is executed inherit it."""
    bit = 1 << capability  # the capabilities that are asked for lie in the first word
    data = (_CapData * 2)(_CapData(bit, bit, bit), _CapData(0, 0, 0))
    header = _CapHeader(_CAPABILITY_VERSION_3, 0)
    if _libc.capset(ctypes.byref(header), ctypes.byref(data)) != 0:
        raise OSError(ctypes.get_errno(), f"cannot keep capability {capability}")
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability)


def become(uid: int, gid: int, capability: int) -> None:
    """Become another user permanently; keep one capability, or none when it is negative."""
    if os.geteuid() == uid:
        return
    if capability >= 0:
        _prctl(_PR_SET_KEEPCAPS, 1)
        # Postgres asks access(2) for its own programs. That call leaves the capabilities of a user out of
        # account, unless this bit is set; where it cannot be, the programs must be within the user's reach.
        with contextlib.suppress(OSError):
            _prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if capability >= 0:
        _keep_only(capability)


def main(arguments: list[str]) -> None:
    """Drop, tie, exec."""
    parent_pid, uid, gid, capability = (int(text) for text in arguments[:4])
    program = arguments[4:]
    become(uid, gid, capability)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    # After the drop: a change of credentials clears it. SIGINT is Postgres' fast shutdown.
    _prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
    if os.getppid() != parent_pid:  # the parent died before the signal was asked for
        sys.exit(1)
    os.umask(0o077)
    os.execv(program[0], program)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
