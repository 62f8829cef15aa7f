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
# A line that goes on with the sentence before it.
_GOES_ON = re.compile(r"but |and |Expected to find it ")
_NO_SPACE = "No space left on device"
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
    for level in ("PANIC", "FATAL"):
        for number in range(len(lines) - 1, -1, -1):
            found = lines[number]
            if found is None or found["level"] != level or _NOISE.search(found["text"]):
                continue
            at, cause = _full_disk(lines, number) or (number, found)
            more = []
            for following in lines[at + 1 : at + 4]:
                if following is None or following["level"] not in {"DETAIL", "HINT"}:
                    break
                more.append(following["text"].strip())
            return ": ".join([cause["text"].strip(), *more])[:600]
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


def _full_disk(lines: list[re.Match[str] | None], last: int) -> tuple[int, re.Match[str]] | None:
    """The line up to the last one in which the same process says that its disk is full."""
    end = lines[last]
    for number in range(last, -1, -1):
        found = lines[number]
        if found and end and found["pid"] == end["pid"] and _NO_SPACE in found["text"]:
            return number, found
    return None


def _ended(exit_code: int | None) -> str:
    if exit_code is None:
        return "it gave no reason"
    if exit_code < 0:
        return f"it was killed by signal {-exit_code}"
    return f"it exited with code {exit_code} and gave no reason"
