"""Profiles: names for meshes, each with its address and where its API key is kept.

They stand in `profiles.json` in the user's configuration directory, which only the user can read. A key stands in the
system's keyring if there is one, else in that file.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from services.cli.errors import EXIT_DENIED, EXIT_USAGE, CliError

FILE = "profiles.json"
# Under this name a keyring shows our keys.
SERVICE = "tollmesh"
# What a keyring of an operating system ranks at least; below are stand-ins that keep nothing, or in plain text.
_KEYRING_PRIORITY_MIN = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_chosen = ""


class KeyPlace(StrEnum):
    """Where a key is kept."""

    KEYRING = "keyring"
    FILE = "file"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Profile:
    """A mesh by name.

    Attributes:
        grpc: `host:port` of its gRPC server.
        rest: base URL of its REST facade; empty when none is known.
        key_place: where its key is kept.
        file_key: the key, if that is the file.
    """

    name: str
    grpc: str
    rest: str = ""
    key_place: KeyPlace = KeyPlace.NONE
    file_key: str = field(default="", repr=False)

    def api_key(self) -> str:
        """Return its key; empty when it has none.

        Raises:
            CliError: the keyring does not give it.
        """
        if self.key_place is not KeyPlace.KEYRING:
            return self.file_key
        with _keyring(self.name) as ring:
            found = ring.get_password(SERVICE, self.name)
        if not found:
            raise _key_lost(self.name, "it is no longer there")
        return str(found)


@dataclass(frozen=True, slots=True)
class Profiles:
    """All profiles of a user.

    Attributes:
        current: the one that `profiles use` chose; empty when none is.
    """

    current: str = ""
    by_name: Mapping[str, Profile] = field(default_factory=dict)

    def get(self, name: str) -> Profile:
        """Return a profile. Raises CliError: there is none of that name."""
        found = self.by_name.get(name)
        if found is None:
            known = ", ".join(sorted(self.by_name))
            raise CliError(
                f"there is no profile {name[:100]!r}",
                f"there are: {known}" if known else "there is none yet",
                "to add it: tollmesh profiles add NAME --address HOST:PORT",
                exit_code=EXIT_USAGE,
            )
        return found


def choose(name: str) -> None:
    """Keep what `--profile` or TOLLMESH_PROFILE named for this command; empty for neither."""
    global _chosen  # noqa: PLW0603 - one command line a process
    _chosen = name


def chosen() -> Profile | None:
    """Return the profile that `--profile` or TOLLMESH_PROFILE named. Raises CliError: there is none of that name."""
    return read().get(_chosen) if _chosen else None


def in_use() -> Profile | None:
    """Return the profile that `profiles use` chose, if one was."""
    found = read()
    return found.by_name.get(found.current)


def folder() -> Path:
    """Return the directory of the user's configuration."""
    if chosen_dir := os.environ.get("TOLLMESH_CONFIG_DIR"):
        return Path(chosen_dir)
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "tollmesh"


def read() -> Profiles:
    """Read all profiles; none when there is no file yet.

    Raises:
        CliError: the file cannot be read, or is none of ours.
    """
    path = folder() / FILE
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        found = {name: _profile(name, each) for name, each in plain["profiles"].items()}
        return Profiles(str(plain.get("current", "")), found)
    except FileNotFoundError:
        return Profiles()
    except OSError as error:
        raise CliError(f"cannot read {path}: {error.strerror}", exit_code=EXIT_USAGE) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CliError(
            f"{path} is damaged: {type(error).__name__}: {error}",
            "correct it, or delete it and add the profiles again with `tollmesh profiles add`",
            exit_code=EXIT_USAGE,
        ) from error


def _profile(name: str, plain: Mapping[str, Any]) -> Profile:
    return Profile(
        name,
        str(plain["grpc"]),
        str(plain.get("rest", "")),
        KeyPlace(plain.get("key_place", "none")),
        str(plain.get("api_key", "")),
    )


def complete(incomplete: str) -> list[str]:
    """Return the names that begin so, for completion, which fails in silence."""
    try:
        return sorted(name for name in read().by_name if name.startswith(incomplete))
    except CliError:
        return []


def add(profile: Profile, api_key: str, place: KeyPlace | None, *, overwrite: bool) -> Profile:
    """Store a profile and its key; returns it as stored.

    Args:
        api_key: empty for none.
        place: where to keep the key; None for the keyring if there is one, else the file.
        overwrite: whether it may replace one of the same name.

    Raises:
        CliError: the name is unfit or taken, or the keyring does not take the key.
    """
    if not _NAME.fullmatch(profile.name):
        raise CliError(
            f"{profile.name[:100]!r} is not a name of a profile: use letters, digits and . _ -",
            exit_code=EXIT_USAGE,
        )
    with _changing() as found:
        before = found.by_name.get(profile.name)
        if before is not None and not overwrite:
            raise CliError(
                f"there is a profile {profile.name!r} already, of {before.grpc}",
                "to change it, use --replace",
                exit_code=EXIT_USAGE,
            )
        stored = _with_key(profile, api_key, place)
        _write(Profiles(found.current, {**found.by_name, profile.name: stored}))
        # Only now: until the file is written, the profile that it replaces needs its key.
        if before is not None and stored.key_place is not KeyPlace.KEYRING:
            _forget_key(before)
    return stored


def use(name: str) -> None:
    """Let a profile hold where nothing else names a mesh; an empty name for none. Raises CliError: there is none."""
    with _changing() as found:
        if name:
            found.get(name)
        _write(replace(found, current=name))


def remove(name: str) -> None:
    """Forget a profile and its key. Raises CliError: there is none of that name."""
    with _changing() as found:
        gone = found.get(name)
        left = {each: profile for each, profile in found.by_name.items() if each != name}
        _write(Profiles("" if found.current == name else found.current, left))
        _forget_key(gone)


def has_keyring() -> bool:
    """True when this system has a keyring of its own that can be used here."""
    # Imported here: it takes half a second, which only who keeps keys in it should pay.
    import keyring  # noqa: PLC0415

    try:
        return float(keyring.get_keyring().priority) >= _KEYRING_PRIORITY_MIN
    except Exception:  # a backend may fail in ways of its own while it looks for its daemon
        return False


def _with_key(profile: Profile, api_key: str, place: KeyPlace | None) -> Profile:
    if not api_key:
        return replace(profile, key_place=KeyPlace.NONE, file_key="")
    if place is KeyPlace.FILE or (place is None and not has_keyring()):
        return replace(profile, key_place=KeyPlace.FILE, file_key=api_key)
    if not has_keyring():
        raise CliError(
            "this system has no keyring that can be used here",
            "keep the key in a file that only you can read: --keep-in file",
            exit_code=EXIT_USAGE,
        )
    with _keyring(profile.name) as ring:
        ring.set_password(SERVICE, profile.name, api_key)
    return replace(profile, key_place=KeyPlace.KEYRING, file_key="")


def _forget_key(profile: Profile) -> None:
    if profile.key_place is not KeyPlace.KEYRING:
        return
    import keyring.errors  # noqa: PLC0415 - as in `has_keyring`

    with _keyring(profile.name) as ring, contextlib.suppress(keyring.errors.PasswordDeleteError):
        ring.delete_password(SERVICE, profile.name)


@contextlib.contextmanager
def _keyring(name: str) -> Iterator[Any]:
    import keyring  # noqa: PLC0415 - as in `has_keyring`

    try:
        yield keyring
    except keyring.errors.PasswordDeleteError:
        raise
    except (keyring.errors.KeyringError, RuntimeError, OSError) as error:
        raise _key_lost(name, str(error) or type(error).__name__) from error


def _key_lost(name: str, why: str) -> CliError:
    return CliError(
        f"the system's keyring does not give the key of profile {name!r}: {why}",
        f"unlock it, or store the key again: tollmesh profiles add {name} --replace …; or set TOLLMESH_API_KEY",
        exit_code=EXIT_DENIED,
    )


@contextlib.contextmanager
def _changing() -> Iterator[Profiles]:
    """Give the profiles to one process at a time: of two that change them at once, neither loses the other's."""
    place = folder()
    try:
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(place / f"{FILE}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise CliError(
            f"cannot write to {place}: {error.strerror}", exit_code=EXIT_USAGE
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield read()
    finally:
        os.close(lock)


def _write(profiles: Profiles) -> None:
    plain = {
        "current": profiles.current,
        "profiles": {
            each.name: {
                "grpc": each.grpc,
                "rest": each.rest,
                "key_place": each.key_place.value,
                **({"api_key": each.file_key} if each.file_key else {}),
            }
            for each in profiles.by_name.values()
        },
    }
    path = folder() / FILE
    try:
        # Made for its owner only, and moved to its place whole.
        descriptor, new = tempfile.mkstemp(prefix=f".{FILE}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(plain, file, indent=2)
                file.flush()
                os.fsync(file.fileno())
            Path(new).replace(path)
        except BaseException:
            Path(new).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise CliError(f"cannot write {path}: {error.strerror}", exit_code=EXIT_USAGE) from error
