"""The command line's side of gRPC: synchronous stubs, the key on every call, errors as sentences."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc
from google.rpc import status_pb2

from services.cli.errors import (
    EXIT_DENIED,
    EXIT_FAULT,
    EXIT_REFUSED,
    EXIT_UNAVAILABLE,
    EXIT_USAGE,
    CliError,
)
from services.runtime.config import MESSAGE_BYTES_MAX
from services.runtime.errors import DomainError
from services.runtime.status import DETAILS_KEY, from_status

DEFAULT_ADDRESS = "127.0.0.1:7443"
CALL_TIMEOUT_SECONDS = 60.0
# `tollmesh up` leaves its address and key here, readable by its owner only, so that the next command finds them.
SESSION_FILE = "session.json"

KEY_HINT = "set TOLLMESH_API_KEY to a key of this mesh, or TOLLMESH_DATA_DIR to the data directory of `tollmesh up`"

StubT = TypeVar("StubT")
ResponseT = TypeVar("ResponseT")

_EXITS = {
    grpc.StatusCode.UNAVAILABLE: EXIT_UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: EXIT_UNAVAILABLE,
    grpc.StatusCode.UNAUTHENTICATED: EXIT_DENIED,
    grpc.StatusCode.PERMISSION_DENIED: EXIT_DENIED,
    grpc.StatusCode.INTERNAL: EXIT_FAULT,
    grpc.StatusCode.UNKNOWN: EXIT_FAULT,
}


@dataclass(frozen=True, slots=True)
class Session:
    """Where a mesh listens and the key to show it.

    Attributes:
        grpc: `host:port`.
        api_key: the bearer key; empty when none is known.
        rest: base URL of the REST facade, or an empty text.
    """

    grpc: str
    api_key: str
    rest: str = ""

    @classmethod
    def find(cls, data_dir: Path | None = None) -> Session:
        """Read TOLLMESH_ADDRESS and TOLLMESH_API_KEY, and fill up from the last `tollmesh up`."""
        stored = _stored(data_dir or Path(os.environ.get("TOLLMESH_DATA_DIR", ".tollmesh")))
        return cls(
            grpc=os.environ.get("TOLLMESH_ADDRESS") or stored.get("grpc") or DEFAULT_ADDRESS,
            api_key=os.environ.get("TOLLMESH_API_KEY") or stored.get("api_key") or "",
            rest=stored.get("rest") or "",
        )


class Client:
    """A channel to a mesh. Use as a context manager."""

    def __init__(self, session: Session) -> None:
        """Raises CliError: the address or the key cannot be one."""
        _check(session)
        self.session = session
        self.metadata: tuple[tuple[str, str | bytes], ...] = ()
        if session.api_key:
            self.metadata = (("authorization", f"Bearer {session.api_key}"),)
        self._channel = grpc.insecure_channel(
            session.grpc,
            options=[
                ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
                ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
            ],
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def stub(self, stub_type: Callable[[grpc.Channel], StubT]) -> StubT:
        """Make a stub on the channel."""
        return stub_type(self._channel)

    def call(
        self,
        method: Callable[..., ResponseT],
        request: Any,
        timeout: float = CALL_TIMEOUT_SECONDS,
    ) -> ResponseT:
        """Call an RPC.

        Raises:
            CliError: it failed; says why and what to do.
        """
        try:
            return method(request, timeout=timeout, metadata=self.metadata)
        except grpc.RpcError as error:
            raise self.explain(error) from error

    def stream(
        self, method: Callable[..., Any], request: Any, timeout: float | None = None
    ) -> Iterator[Any]:
        """Call a streaming RPC and give its answers as they come.

        Raises:
            CliError: it failed.
        """
        try:
            yield from method(request, timeout=timeout, metadata=self.metadata)
        except grpc.RpcError as error:
            raise self.explain(error) from error

    def explain(self, error: grpc.RpcError) -> CliError:
        """Say what an RPC's error means to the person at the terminal."""
        code = error.code()
        typed = _typed(error)
        exit_code = _EXITS.get(code, EXIT_REFUSED)
        if typed is None and code == grpc.StatusCode.DEADLINE_EXCEEDED:
            return CliError(
                f"{self.session.grpc} did not answer in time",
                "what was asked may have been done: ask again, with the same ids it is done once",
                exit_code=exit_code,
            )
        if typed is None:
            return CliError(
                f"no mesh answers at {self.session.grpc} ({code.name.lower()}: {error.details()})",
                "start one with `tollmesh up`, or set TOLLMESH_ADDRESS to where it listens",
                exit_code=exit_code,
            )
        hints = [f"{field.field}: {field.description}" for field in typed.fields[1:20]]
        if code == grpc.StatusCode.UNAUTHENTICATED:
            hints.append(KEY_HINT)
        return CliError(typed.message, *hints, exit_code=exit_code, reason=typed.reason)


def _check(session: Session) -> None:
    host, colon, port = session.grpc.rpartition(":")
    if not (host and colon and port.isascii() and port.isdigit()) or "/" in session.grpc:
        raise CliError(
            f"{session.grpc!r} is no address of a mesh",
            "set TOLLMESH_ADDRESS to host:port of its gRPC server, e.g. 127.0.0.1:7443",
            exit_code=EXIT_USAGE,
        )
    if not (session.api_key.isascii() and session.api_key.isprintable()):
        raise CliError(
            "the API key holds characters that no key has",
            KEY_HINT,
            exit_code=EXIT_DENIED,
        )


def save_session(data_dir: Path, session: Session) -> None:
    """Leave the session for later commands, readable by its owner only."""
    path = data_dir / SESSION_FILE
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump({"grpc": session.grpc, "rest": session.rest, "api_key": session.api_key}, file)


def left_key(data_dir: Path) -> str:
    """Return the key of a mesh that was killed and left its session behind; empty when none was."""
    return _stored(data_dir).get("api_key") or ""


def forget_session(data_dir: Path) -> None:
    """Remove the session of a mesh that ends."""
    (data_dir / SESSION_FILE).unlink(missing_ok=True)


def _stored(data_dir: Path) -> dict[str, str]:
    try:
        stored: dict[str, str] = json.loads((data_dir / SESSION_FILE).read_text())
    except (OSError, ValueError):
        return {}
    return stored


def _typed(error: grpc.RpcError) -> DomainError | None:
    trailers: Any = error.trailing_metadata() or ()
    for key, value in trailers:
        if key == DETAILS_KEY and isinstance(value, bytes):
            return from_status(status_pb2.Status.FromString(value))
    return None
