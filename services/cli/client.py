"""The command line's side of gRPC: synchronous stubs, the key on every call, errors as sentences."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError
from google.rpc import status_pb2

from services.cli import profiles
from services.cli.errors import (
    EXIT_DENIED,
    EXIT_FAULT,
    EXIT_REFUSED,
    EXIT_UNAVAILABLE,
    EXIT_USAGE,
    CliError,
)
from services.runtime.addresses import check_port
from services.runtime.edge.status import DETAILS_KEY, from_status
from services.runtime.edge.weight import MESSAGE_BYTES_MAX
from services.runtime.errors import DomainError

DEFAULT_ADDRESS = "127.0.0.1:7443"
CALL_TIMEOUT_SECONDS = 60.0
# `tollmesh up` leaves its address and key here, readable by its owner only, so that the next command finds them.
SESSION_FILE = "session.json"

KEY_HINT = "set TOLLMESH_API_KEY to a key of this mesh, or TOLLMESH_DATA_DIR to the data directory of `tollmesh up`"

StubT = TypeVar("StubT")
ResponseT = TypeVar("ResponseT")

_AGAIN = (
    "the request may have been carried out: repeat it with the same ids, and it is done only once"
)
_LESS = "ask for less at once: with --limit, if the command has it"
_ADDRESS = "set TOLLMESH_ADDRESS to host:port of a gRPC server, e.g. 127.0.0.1:7443"
# A mesh makes keys of 56 characters; a server takes no headers of 16 KiB.
_KEY_CHARS_MAX = 256
# How gRPC's core describes a broken connection. Any other text comes from a server or proxy on the other side.
_NOT_CONNECTED = ("failed to connect", "connections to all backends failing")
_NAMES = ("dns", "name resolution", "resolving", "hostname lookup", "domain name")
_OTHER_PROTOCOL = ("http1", "handshake", "settings frame", "ssl", "tls", "wrong_version")
_BROKEN = (
    *("socket closed", "reset by peer", "goaway", "broken pipe", "recvmsg", "sendmsg", "keepalive"),
    *("ping timeout", "stream removed", "transport closed", "end of tcp stream", "endpoint"),
)
_CORE = (*_NOT_CONNECTED, *_NAMES, *_OTHER_PROTOCOL, *_BROKEN)

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
    """Where a mesh listens, and the API key for it.

    Attributes:
        grpc: `host:port`.
        api_key: the bearer key; empty when none is known.
        rest: base URL of the REST facade, or an empty text.
        profile: the profile that the address is from, or an empty text.
    """

    grpc: str
    api_key: str
    rest: str = ""
    profile: str = ""

    @classmethod
    def find(cls, data_dir: Path | None = None) -> Session:
        """Find the mesh that a command talks to.

        TOLLMESH_ADDRESS and TOLLMESH_API_KEY stand above all. What is unset comes from the profile that `--profile` or
        TOLLMESH_PROFILE names, else from the `tollmesh up` of this directory, else from the profile in use.

        Raises:
            CliError: there is no such profile, or its key cannot be had.
        """
        return cls.located(data_dir)[0]

    @classmethod
    def located(cls, data_dir: Path | None = None) -> tuple[Session, str]:
        """Find the mesh that a command talks to, and say in words what named its address. Raises as `find`."""
        address, key = os.environ.get("TOLLMESH_ADDRESS"), os.environ.get("TOLLMESH_API_KEY")
        rest = os.environ.get("TOLLMESH_REST_URL") or ""
        folder = data_dir or Path(os.environ.get("TOLLMESH_DATA_DIR", ".tollmesh"))
        profile = profiles.chosen()
        stored = {} if profile else _stored(folder)
        if not (stored or profile):
            profile = profiles.in_use()
        if profile is not None and address in (None, "", profile.grpc):
            found = cls(profile.grpc, key or profile.api_key(), rest or profile.rest, profile.name)
            return found, f"profile {profile.name}"
        # A profile's key belongs to its address, and is sent to no other.
        found = cls(
            grpc=address or stored.get("grpc") or DEFAULT_ADDRESS,
            api_key=key or stored.get("api_key") or "",
            rest=rest or (_same(address, stored) and stored.get("rest")) or "",
        )
        if address:
            return found, "TOLLMESH_ADDRESS"
        return found, f"the mesh of {folder}" if stored else "default"


class Client:
    """A channel to a mesh. Use as a context manager."""

    def __init__(self, session: Session) -> None:
        """Raises CliError: the address or the key is malformed."""
        check(session)
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

    @property
    def channel(self) -> grpc.Channel:
        """The channel itself, for who makes calls without a stub."""
        return self._channel

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
            CliError: the call failed; the message says why and what to do.
        """
        weight = request.ByteSize()
        if weight > MESSAGE_BYTES_MAX:
            raise CliError(
                f"the request has {weight:,} bytes; the limit is {MESSAGE_BYTES_MAX:,}",
                "split it",
                exit_code=EXIT_USAGE,
            )
        try:
            return method(request, timeout=timeout, metadata=self.metadata)
        except grpc.RpcError as error:
            raise self.explain(error) from error

    def stream(
        self, method: Callable[..., Any], request: Any, timeout: float | None = None
    ) -> Iterator[Any]:
        """Call a streaming RPC and yield its responses as they come.

        Raises:
            CliError: it failed.
        """
        try:
            yield from method(request, timeout=timeout, metadata=self.metadata)
        except grpc.RpcError as error:
            raise self.explain(error) from error

    def explain(self, error: grpc.RpcError) -> CliError:
        """Turn an RPC error into one for the person at the terminal."""
        code = error.code()
        typed = _typed(error)
        exit_code = _EXITS.get(code, EXIT_REFUSED)
        if typed is None:
            message, *untyped_hints = self._untyped(error)
            return CliError(message, *untyped_hints, exit_code=exit_code, code=code.name)
        return CliError(
            typed.message,
            *([self._key_hint()] if code == grpc.StatusCode.UNAUTHENTICATED else []),
            exit_code=exit_code,
            code=code.name,
            reason=typed.reason,
            metadata=typed.metadata,
            fields=[(field.field, field.description) for field in typed.fields],
            retry_after_ms=typed.retry_after_ms,
        )

    def _untyped(self, error: grpc.RpcError) -> list[str]:
        """Explain an error that didn't come from our services but from gRPC or a proxy: message, then hints."""
        code, details = error.code(), str(error.details() or "")
        address, cause = self.session.grpc, f"{code.name.lower()}: {details}"
        lowered = details.lower()
        is_too_large = code == grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in lowered
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            return [f"{address} did not answer in time", _AGAIN]
        if is_too_large and lowered.startswith("sent"):
            return [
                f"the request or its response is too large for one call ({details})",
                _LESS,
            ]
        if is_too_large:
            return [f"the response of {address} is too large for one call ({details})", _LESS]
        if code == grpc.StatusCode.UNAVAILABLE:
            return self._unavailable(details, answered=_was_answered(error))
        found = {
            grpc.StatusCode.UNAUTHENTICATED: [
                f"{address} rejected the API key ({details})",
                self._key_hint(),
            ],
            grpc.StatusCode.PERMISSION_DENIED: [f"{address} does not allow this ({details})"],
            grpc.StatusCode.RESOURCE_EXHAUSTED: [
                f"{address} is overloaded ({details})",
                "try again later",
            ],
            grpc.StatusCode.UNIMPLEMENTED: [
                f"{address} answers, but does not know this call ({details})",
                "it is another service, or a mesh of another version: check TOLLMESH_ADDRESS and `tollmesh version`",
            ],
            grpc.StatusCode.CANCELLED: [f"the call was cancelled ({details})", _AGAIN],
        }
        return found.get(code, [f"{address} failed ({cause})", _AGAIN])

    def _key_hint(self) -> str:
        if not self.session.profile:
            return KEY_HINT
        return f"store a key of this mesh: tollmesh profiles add {self.session.profile} --replace …"

    def _unavailable(self, details: str, *, answered: bool) -> list[str]:
        address, lowered, profile = self.session.grpc, details.lower(), self.session.profile
        of_profile = [
            f"it is the address of profile {profile!r}: if the mesh has moved, tollmesh profiles add {profile} "
            f"--replace …; if it is gone, tollmesh profiles remove {profile}"
        ]
        if answered or not _speaks_of(lowered, _CORE):
            return [f"{address} answers, but the server behind it does not ({details})", _AGAIN]
        if _speaks_of(lowered, _NAMES):
            hints = of_profile if profile else [_ADDRESS]
            return [f"cannot resolve the host name of {address} ({details})", *hints]
        if _speaks_of(lowered, _OTHER_PROTOCOL):
            return [
                f"{address} answers, but not as gRPC without TLS ({details})",
                "set TOLLMESH_ADDRESS to the gRPC port of a mesh, not to its REST port",
            ]
        if lowered.startswith(_NOT_CONNECTED) and not _speaks_of(lowered, _BROKEN):
            start = "start one with `tollmesh up`, or set TOLLMESH_ADDRESS to the address of a running one"
            hints = of_profile if profile else [start]
            return [f"no mesh answers at {address} (unavailable: {details})", *hints]
        return [f"the connection to {address} broke ({details})", _AGAIN]


def _speaks_of(details: str, signs: tuple[str, ...]) -> bool:
    return any(sign in details for sign in signs)


def _was_answered(error: Any) -> bool:
    """True when a server or a proxy wrote the status; gRPC's own come without headers."""
    return bool(error.initial_metadata() or error.trailing_metadata())


def _same(address: str | None, stored: Mapping[str, str]) -> bool:
    return not address or address == stored.get("grpc")


def check(session: Session, how: str = _ADDRESS) -> None:
    """Refuse an address or a key that no mesh can have; `how` says where the address is given. Raises CliError."""
    host, colon, port = session.grpc.rpartition(":")
    if not (host and colon and port.isascii() and port.isdigit()) or "/" in session.grpc:
        raise CliError(
            f"{session.grpc!r} is not an address of the form host:port",
            how,
            exit_code=EXIT_USAGE,
        )
    try:
        check_port(session.grpc)
    except ValueError as error:
        raise CliError(str(error), how, exit_code=EXIT_USAGE) from error
    if len(session.api_key) > _KEY_CHARS_MAX:
        raise CliError(
            f"the API key has {len(session.api_key):,} characters: no valid key is that long",
            KEY_HINT,
            exit_code=EXIT_DENIED,
        )
    if not (session.api_key.isascii() and session.api_key.isprintable()):
        raise CliError(
            "the API key has characters that no valid key has",
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
            try:
                return from_status(status_pb2.Status.FromString(value))
            except DecodeError:  # a proxy's
                return None
    return None
