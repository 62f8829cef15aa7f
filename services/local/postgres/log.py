"""Finds in a Postgres log why the server stopped. Pure."""

from __future__ import annotations

import re

# Messages to single sessions, and messages that something ended without a cause.
_NOISE = re.compile(
    r"terminating (connection|background|logical|walreceiver|autovacuum)|the database system is "
    r"|password authentication failed|role .* does not exist|database .* does not exist|no pg_hba.conf entry"
    r"|connection to client lost|too many clients|connection slots|canceling authentication"
)
_LINE = re.compile(
    r"(?:^|(?P<pid>\[\d+\])?\s)(?P<level>PANIC|FATAL|ERROR|WARNING|NOTICE|DETAIL|HINT|CONTEXT|STATEMENT|QUERY|LOG):\s+(?P<text>.*)"
)
# What only the first of a server's processes writes, and the children whose end it tells of: they end a server.
_LEADING = re.compile(
    r"starting PostgreSQL|listening on|database system is (shut down|ready)|aborting startup"
    r"|shutting down because|received \w+ shutdown request|terminating any other active"
    r"|all server processes terminated|\(PID (?P<child>\d+)\) (was terminated|exited)"
)
# A line that goes on with the sentence before it.
_GOES_ON = re.compile(r"but |and |Expected to find it ")
_NO_SPACE = "No space left on device"
_UNFIT_SETTING = re.compile(r"parameter|syntax error in file|is outside the valid range")
_SETTINGS_UNFIT = re.compile(r"configuration file .* contains errors")
# It was told to stop, or its files are gone: not an error of its own.
_ASKED = (
    re.compile(r"performing immediate shutdown because .*"),
    re.compile(r"received \w+ shutdown request"),
)
_ADVICE = (
    (_NO_SPACE, "free space on its disk"),
    ("Disk quota exceeded", "free space in its quota"),
    (
        "Permission denied|wrong ownership|invalid permissions",
        "restore the owner and mode of its files",
    ),
    (
        "could not create lock file|could not bind|Address already in use|[Ii]s another postmaster",
        "stop the other server that uses its socket",
    ),
    (
        "shared memory|semaphore|Cannot allocate memory|[Oo]ut of memory",
        "give the machine, or the container, more memory",
    ),
    ("Too many open files", "raise the limit on open files"),
    (
        "initialized by PostgreSQL version|not compatible with this version|incompatible with server",
        "start it with the release that wrote it",
    ),
    (
        "checkpoint record|control file|pg_control|checksum|invalid page|could not read file|is not a valid"
        "|unexpected data|required WAL",
        "its files are damaged: restore them from a backup",
    ),
    (
        "invalid value for parameter|unrecognized configuration|configuration file",
        "correct its settings",
    ),
)


def cause_of(text: str, *, exit_code: int | None = None, free_bytes: int | None = None) -> str:
    """Return in one line why a server stopped, and what to do.

    Args:
        text: what it wrote since it was started.
        exit_code: of its process, negative for a signal; None while it runs.
        free_bytes: room on its disk; a server on a full one cannot write down why it ends.
    """
    told = _last_words(text)
    if free_bytes is not None and free_bytes < 1024**2 and _NO_SPACE not in told:
        told = f"{told}; {_NO_SPACE}".removeprefix("; ")
    if not told:
        told = _ended(exit_code)
    advice = next((what for mark, what in _ADVICE if re.search(mark, told)), "")
    return f"{told} ({advice})" if advice else told


def _last_words(text: str) -> str:
    """The last PANIC, else the last FATAL that is not a session's, with its detail and hint.

    Where the same process told of a full disk before, that is why.
    """
    lines = [_LINE.search(line) for line in text.splitlines()]
    leading = _leading(lines)
    for level in ("PANIC", "FATAL"):
        for number in range(len(lines) - 1, -1, -1):
            found = lines[number]
            if found and found["level"] == level and not _is_of_session(found, leading):
                return _with_details(lines, number)
    # A program that could not even be started leaves other words. The server indents what goes on on a further line,
    # such as the text of a statement.
    rest = [
        line.strip() for line in text.splitlines() if line.strip() and not line.startswith("\t")
    ]
    for number in range(len(rest) - 1, -1, -1):
        line = rest[number]
        if _NO_SPACE in line or (
            not _LINE.search(line) and re.search(r"Error|error|cannot|could not", line)
        ):
            first = number
            while first and _GOES_ON.match(rest[first]):
                first -= 1
            return " ".join(rest[first : number + 1])[:600]
    for asked in _ASKED:
        for found in reversed(lines):
            if found and (words := asked.search(found["text"])):
                return words[0][:600]
    return ""


def _with_details(lines: list[re.Match[str] | None], number: int) -> str:
    """What a line says, or the one before it that says why, with its detail and hint."""
    at = _full_disk(lines, number)
    told: list[str] = []
    for found in lines[at : at + 4]:
        if found is None or (told and found["level"] not in {"DETAIL", "HINT"}):
            break
        told.append(found["text"].strip())
    if _SETTINGS_UNFIT.search(told[0]):
        told += _faults_of_settings(lines, at)
    return ": ".join(told)[:600]


def _is_of_session(line: re.Match[str], leading: set[str]) -> bool:
    """Whether a line is about a session, whose end is not the server's."""
    if _NOISE.search(line["text"]):
        return True
    is_other = bool(leading and line["pid"]) and line["pid"] not in leading
    return line["level"] == "FATAL" and is_other


def _leading(lines: list[re.Match[str] | None]) -> set[str]:
    """The processes, as a line shows them, whose end is the server's; empty where the lines don't tell."""
    found: set[str] = set()
    for line in lines:
        if (
            line
            and line["pid"]
            and line["level"] == "LOG"
            and (said := _LEADING.search(line["text"]))
        ):
            found.add(line["pid"])
            if said["child"]:
                found.add(f"[{said['child']}]")
    return found


def _faults_of_settings(lines: list[re.Match[str] | None], end: int) -> list[str]:
    """What a server found in its settings right before it gave up on them."""
    told: list[str] = []
    for found in reversed(lines[:end]):
        is_more = found is not None and found["level"] in {"DETAIL", "HINT"}
        if found is None or not (is_more or _UNFIT_SETTING.search(found["text"])):
            break
        told.insert(0, found["text"].strip())
    return told


def _full_disk(lines: list[re.Match[str] | None], last: int) -> int:
    """The line up to the last one in which the same process says that its disk is full; else the last one."""
    end = lines[last]
    for number in range(last, -1, -1):
        found = lines[number]
        if found and end and found["pid"] == end["pid"] and _NO_SPACE in found["text"]:
            return number
    return last


def _ended(exit_code: int | None) -> str:
    if exit_code is None:
        return "it gave no reason"
    if exit_code < 0:
        return f"it was killed by signal {-exit_code}"
    return f"it exited with code {exit_code} and gave no reason"
