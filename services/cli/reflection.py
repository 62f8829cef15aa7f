"""The RPCs of a server as it describes them itself: none of them need be known here."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from services.cli import strict_json
from services.cli.client import Client
from services.cli.errors import EXIT_REFUSED, EXIT_USAGE, CliError
from services.runtime.edge import json_messages

_SHOWN_MAX = 10
_TYPES = {
    value: name.removeprefix("TYPE_").lower()
    for name, value in vars(FieldDescriptor).items()
    if name.startswith("TYPE_")
}


@dataclass(frozen=True, slots=True)
class Method:
    """An RPC of the server."""

    descriptor: MethodDescriptor

    @property
    def path(self) -> str:
        """`package.Service/Method`."""
        return f"{self.descriptor.containing_service.full_name}/{self.descriptor.name}"

    @property
    def signature(self) -> str:
        """The RPC as its schema writes it."""
        taken, given = self.descriptor.input_type.full_name, self.descriptor.output_type.full_name
        incoming = "stream " if self.descriptor.client_streaming else ""
        outgoing = "stream " if self.descriptor.server_streaming else ""
        return f"{self.descriptor.name}({incoming}{taken}) returns ({outgoing}{given})"


class Server:
    """What a server says of itself."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._database = ProtoReflectionDescriptorDatabase(client.channel)
        self.pool = descriptor_pool.DescriptorPool(self._database)
        self._names: Sequence[str] = ()

    def services(self) -> Sequence[str]:
        """Return the full names of all services. Raises CliError: the server does not describe itself."""
        if not self._names:
            try:
                self._names = sorted(self._database.get_services())
            except grpc.RpcError as error:
                raise self._client.explain(error) from error
        return self._names

    def methods(self, service: str) -> list[Method]:
        """Return the RPCs of a service, named as in `method`. Raises CliError: there is none."""
        name = self._service(service)
        try:
            found = self.pool.FindServiceByName(name)
        except grpc.RpcError as error:
            raise self._client.explain(error) from error
        return [Method(each) for each in found.methods]

    def method(self, path: str) -> Method:
        """Return an RPC.

        Args:
            path: `package.Service/Method` or `package.Service.Method`; the package may be left out or cut from the
                left, and so may the ending `Service`.

        Raises:
            CliError: there is none, or more than one service of that name.
        """
        service, slash, name = path.strip("/").rpartition("/")
        if not slash:
            service, _, name = path.rpartition(".")
        if not service:
            raise CliError(
                f"{path[:200]!r} names no RPC",
                "write service/Method, e.g. LedgerService/GetTrialBalance, or a path: GET /v1/…",
                exit_code=EXIT_USAGE,
            )
        methods = self.methods(service)
        for found in methods:
            if found.descriptor.name.lower() == name.lower():
                return found
        names = [each.descriptor.name for each in methods]
        raise _unknown(f"{self._service(service)} has no RPC {name[:100]!r}", name, names)

    def describe(self, name: str) -> Descriptor | EnumDescriptor:
        """Return a message or an enum by its full name. Raises CliError: there is none."""
        for find in (self.pool.FindMessageTypeByName, self.pool.FindEnumTypeByName):
            try:
                found: Descriptor | EnumDescriptor = find(name.lstrip("."))
            except KeyError:
                continue
            except grpc.RpcError as error:
                raise self._client.explain(error) from error
            return found
        raise CliError(
            f"the server knows no service, RPC, message or enum {name[:200]!r}",
            "`tollmesh api list` names the services; messages need their full name",
            exit_code=EXIT_USAGE,
        )

    def call(
        self,
        method: Method,
        documents: Sequence[Any],
        metadata: Sequence[tuple[str, str]] = (),
        timeout: float | None = None,
    ) -> Iterator[Message]:
        """Call an RPC and give its answers as they come.

        Args:
            documents: the request as JSON gives it; several for a stream of requests.

        Raises:
            CliError: a document is no request of this RPC, or the call failed.
        """
        kind = message_factory.GetMessageClass(method.descriptor.input_type)
        requests = [self._request(kind, each) for each in documents]
        if not method.descriptor.client_streaming and len(requests) != 1:
            raise CliError(f"{method.path} takes one request", exit_code=EXIT_USAGE)
        try:
            # One answer is waited for here already.
            yield from self._start(method, requests, [*self._client.metadata, *metadata], timeout)
        except grpc.RpcError as error:
            raise self._client.explain(error) from error

    def _start(
        self,
        method: Method,
        requests: Sequence[Message],
        metadata: Sequence[tuple[str, str | bytes]],
        timeout: float | None,
    ) -> Iterable[Message]:
        answer = message_factory.GetMessageClass(method.descriptor.output_type)
        kind = "_".join(
            "stream" if streams else "unary"
            for streams in (method.descriptor.client_streaming, method.descriptor.server_streaming)
        )
        start = getattr(self._client.channel, kind)(
            f"/{method.path}",
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        taken = iter(requests) if method.descriptor.client_streaming else requests[0]
        called = start(taken, timeout=timeout, metadata=tuple(metadata))
        return called if method.descriptor.server_streaming else iter((called,))

    def _request(self, kind: type[Message], document: Any) -> Message:
        try:
            return json_messages.parse(document, kind())
        except json_messages.NotThisMessage as error:
            name = kind.DESCRIPTOR.full_name
            raise CliError(
                f"the body is no {name}: {error}",
                f"to see its fields: tollmesh api describe {name}",
                exit_code=EXIT_USAGE,
            ) from error

    def _service(self, given: str) -> str:
        known = self.services()
        if given in known:
            return given
        wanted = given.lower().removesuffix("service")
        found = [
            name
            for name in known
            if f".{name.lower().removesuffix('service')}".endswith(f".{wanted}")
        ] or [name for name in known if wanted in name.lower().split(".")[:-1]]
        if len(found) == 1:
            return found[0]
        if found:
            raise CliError(
                f"{given[:100]!r} may be {' or '.join(found[:_SHOWN_MAX])}: name one of them",
                exit_code=EXIT_USAGE,
            )
        short = {name.rpartition(".")[2].lower().removesuffix("service"): name for name in known}
        close = [short[each] for each in difflib.get_close_matches(wanted, short, 3, 0.5)]
        raise _unknown(f"the server has no service {given[:100]!r}", given, close or known)


def body(text: str) -> list[Any]:
    """Read the JSON documents of a body, one after the other; numbers keep their digits.

    Raises:
        CliError: it is no JSON.
    """
    documents: list[Any] = []
    decoder = strict_json.decode
    try:
        try:
            documents.append(decoder(text))
        except ValueError:
            lines = [line for line in text.splitlines() if line.strip()]
            if len(lines) < 2:
                raise
            documents += [decoder(line) for line in lines]
    except ValueError as error:
        raise CliError(f"the body is not valid JSON: {error}", exit_code=EXIT_USAGE) from error
    return [_plain(each) for each in documents]


def _plain(value: Any) -> Any:
    """Give numbers back as numbers where JSON's reader of messages wants them, never rounded."""
    if isinstance(value, strict_json.Number):
        digits = str(value)
        if digits.lstrip("-").isdigit():
            return int(digits)
        if float(digits) != float("inf") and _is_exact(digits):
            return float(digits)
        raise CliError(
            f"the number {digits[:60]} has more digits than a number of JSON can carry: write it as a string",
            exit_code=EXIT_USAGE,
        )
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value


def _is_exact(digits: str) -> bool:
    significant = digits.lower().partition("e")[0].lstrip("-0.").replace(".", "")
    return len(significant) <= 15


def fields(message: Descriptor) -> Iterator[tuple[str, str]]:
    """Give the fields of a message with their types."""
    for each in message.fields:
        target = each.message_type or each.enum_type
        kind = target.full_name if target is not None else _TYPES[each.type]
        if each.message_type is not None and each.message_type.GetOptions().map_entry:
            sides = [dict(fields(each.message_type))[side] for side in ("key", "value")]
            kind = f"map of {sides[0]} to {sides[1]}"
        elif each.is_repeated:
            kind = f"repeated {kind}"
        if each.containing_oneof is not None and not each.containing_oneof.name.startswith("_"):
            kind = f"{kind} (one of {each.containing_oneof.name})"
        yield each.name, kind


def _unknown(message: str, given: str, known: Sequence[str]) -> CliError:
    close = difflib.get_close_matches(given, known, 3, 0.5) or (known if len(known) <= 3 else [])
    hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(known)}"
    return CliError(message, hint, exit_code=EXIT_USAGE if known else EXIT_REFUSED)
