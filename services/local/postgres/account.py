"""Under which user an embedded Postgres runs, and what that user needs to reach its files.

Postgres refuses to run as root. A mesh that root starts gets a user id of its own, one that nobody else on
the machine has: no system user is added, and no other daemon shares it. The owner of the cluster's files
remembers which one it was.
"""

from __future__ import annotations

import grp
import os
import pwd
import secrets
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# Ids that distributions leave free for users made up on the spot (systemd's "dynamic users"); they exist in
# containers with 65,536 mapped ids too.
_DYNAMIC_UIDS = range(61184, 65520)
# Accounts that initdb may borrow: it wants a name for its user id. nobody comes last, others use it.
_NAMED_ACCOUNTS = ("postgres", "daemon", "bin", "nobody")

# linux/capability.h
_CAP_DAC_OVERRIDE = 1
_CAP_DAC_READ_SEARCH = 2
NO_CAPABILITY = -1


class NoAccount(Exception):
    """No unprivileged user can be found to run Postgres as."""


@dataclass(frozen=True, slots=True)
class Account:
    """A user to run programs as. `uid` may have no name on this machine."""

    uid: int
    gid: int


def own() -> Account:
    """The user of this process."""
    return Account(os.geteuid(), os.getegid())


def for_cluster(cluster: Path, data_dir: Path) -> Account:
    """Choose the user of a cluster: our own, unless we are root.

    Root takes the owner of the cluster's files; for a new cluster the owner of the data directory; when
    that is root too, an id of its own.

    Raises:
        NoAccount: every id of the range is taken.
    """
    if os.geteuid() != 0:
        return own()
    for path in (cluster, data_dir):
        if path.exists() and path.lstat().st_uid != 0:
            return Account(path.lstat().st_uid, path.lstat().st_gid)
    return _unused()


def named() -> Account:
    """Choose a user with a name, for initdb. Raises NoAccount when there is none but root."""
    if os.geteuid() != 0:
        return own()
    entries = {entry.pw_name: entry for entry in reversed(pwd.getpwall()) if entry.pw_uid != 0}
    for name in (*_NAMED_ACCOUNTS, *entries):
        if name in entries:
            return Account(entries[name].pw_uid, entries[name].pw_gid)
    raise NoAccount(
        "Postgres cannot run as root, and this machine has no other user: start the mesh as an "
        "unprivileged user, or use --database-url"
    )


def _unused() -> Account:
    for _ in range(1000):
        number = secrets.choice(_DYNAMIC_UIDS)
        if not _taken(number):
            return Account(number, number)
    raise NoAccount("no user id is free for Postgres: start the mesh as an unprivileged user")


def _taken(number: int) -> bool:
    try:
        pwd.getpwuid(number)
    except KeyError:
        pass
    else:
        return True
    try:
        grp.getgrgid(number)
    except KeyError:
        return False
    return True


def capability(account: Account, paths: Iterable[Path]) -> int:
    """Return the one capability that the user needs to reach all paths, or NO_CAPABILITY.

    A project below a root home (mode 0700) is out of reach for the user that Postgres runs as. Its modes
    are not ours to change, so Postgres keeps the right to pass by them: to read and search, where we have
    it (containers drop it by default), else to override. Only Postgres' superuser could use it, and
    that one's password only root can read.
    """
    if account.uid == os.geteuid() or all(_reachable(account, path) for path in paths):
        return NO_CAPABILITY
    held = _effective_capabilities()
    for candidate in (_CAP_DAC_READ_SEARCH, _CAP_DAC_OVERRIDE):
        if held >> candidate & 1:
            return candidate
    return NO_CAPABILITY


def _effective_capabilities() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def _reachable(account: Account, path: Path) -> bool:
    resolved = path.resolve()
    wanted = stat.S_IROTH | stat.S_IXOTH if resolved.is_dir() else stat.S_IROTH
    return _allows(account, resolved, wanted) and all(
        _allows(account, parent, stat.S_IXOTH) for parent in resolved.parents
    )


def _allows(account: Account, path: Path, wanted: int) -> bool:
    """Whether the mode bits give `wanted` (as bits for others) to the user."""
    status = path.stat()
    if status.st_uid == account.uid:
        return status.st_mode >> 6 & wanted == wanted
    if status.st_gid == account.gid:
        return status.st_mode >> 3 & wanted == wanted
    return status.st_mode & wanted == wanted
