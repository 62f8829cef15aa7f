"""What an error of a call is called: only what nobody answers is a mesh that does not answer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from payments.access.v1 import access_service_pb2, access_service_pb2_grpc

from services.cli import client as clients
from services.cli.client import Client, Session
from services.cli.errors import (
    EXIT_DENIED,
    EXIT_FAULT,
    EXIT_REFUSED,
    EXIT_UNAVAILABLE,
    EXIT_USAGE,
    CliError,
    Resumable,
)
from services.runtime.edge.status import DETAILS_KEY
from services.runtime.edge.weight import MESSAGE_BYTES_MAX

NOBODY = "no mesh answers"


class Server(access_service_pb2_grpc.AccessServiceServicer):
    """Answers as it is told, as a proxy does: without any word of ours."""

    CreateApiKey = RevokeApiKey = ListAuditEntries = None  # type: ignore[assignment] # never called here

    def __init__(self, code: grpc.StatusCode | None, trailers: Any = ()) -> None:
        self._code, self._trailers = code, trailers

    def ListApiKeys(self, request: Any, context: Any) -> Any:  # noqa: N802 - the RPC's name
        if self._code is None:
            name = "x" * (MESSAGE_BYTES_MAX + 1)
            return access_service_pb2.ListApiKeysResponse(next_page_token=name)
        context.set_trailing_metadata(self._trailers)
        context.abort(self._code, "said the proxy")


@contextmanager
def serving(servicer: Server | None) -> Iterator[str]:
    server = grpc.server(
        futures.ThreadPoolExecutor(1), options=[("grpc.max_send_message_length", -1)]
    )
    if servicer is not None:
        access_service_pb2_grpc.add_AccessServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None)


def refused(address: str, timeout: float = 20) -> CliError:
    with Client(Session(address, "key")) as client, pytest.raises(CliError) as raised:
        stub = client.stub(access_service_pb2_grpc.AccessServiceStub)
        client.call(stub.ListApiKeys, access_service_pb2.ListApiKeysRequest(), timeout=timeout)
    return raised.value


@pytest.mark.parametrize(
    ("code", "told", "exit_code"),
    [
        (grpc.StatusCode.UNAVAILABLE, "the server behind it does not", EXIT_UNAVAILABLE),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "is overloaded", EXIT_REFUSED),
        (grpc.StatusCode.UNAUTHENTICATED, "rejected the API key", EXIT_DENIED),
        (grpc.StatusCode.PERMISSION_DENIED, "does not allow this", EXIT_DENIED),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "did not answer in time", EXIT_UNAVAILABLE),
        (grpc.StatusCode.INTERNAL, "failed (internal: said the proxy)", EXIT_FAULT),
        (grpc.StatusCode.UNKNOWN, "failed (unknown: said the proxy)", EXIT_FAULT),
        (grpc.StatusCode.INVALID_ARGUMENT, "failed (invalid_argument: said", EXIT_REFUSED),
        (grpc.StatusCode.CANCELLED, "was cancelled", EXIT_REFUSED),
    ],
)
def test_an_answer_without_our_words_is_told_as_what_it_is(
    code: grpc.StatusCode, told: str, exit_code: int
) -> None:
    # Details that are no message, as a proxy may add, change nothing.
    for trailers in ((), ((DETAILS_KEY, b"\xff\xff"),), (("x", "y"),)):
        with serving(Server(code, trailers)) as address:
            error = refused(address)
        assert told in error.message
        assert NOBODY not in error.message
        assert error.exit_code == exit_code


def test_a_server_that_knows_no_such_call_answers() -> None:
    with serving(None) as address:
        error = refused(address)
    assert "answers, but does not know this call" in error.message
    assert "tollmesh version" in error.hints[0]


def test_an_answer_that_is_too_large_is_called_so() -> None:
    with serving(Server(None)) as address:
        error = refused(address)
    assert "too large for one call" in error.message
    assert "--limit" in error.hints[0]


def test_a_request_that_is_too_large_is_not_even_sent() -> None:
    request = access_service_pb2.ListApiKeysRequest(page_token="x" * (MESSAGE_BYTES_MAX + 1))
    with Client(Session("127.0.0.1:1", "key")) as client, pytest.raises(CliError) as raised:
        stub = client.stub(access_service_pb2_grpc.AccessServiceStub)
        client.call(stub.ListApiKeys, request)
    assert "the limit is 16,777,216" in raised.value.message
    assert raised.value.exit_code == EXIT_USAGE


def test_only_where_nobody_listens_no_mesh_answers() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        error = refused(f"127.0.0.1:{taken.getsockname()[1]}")
    assert error.message.startswith(NOBODY)
    assert error.exit_code == EXIT_UNAVAILABLE


@pytest.mark.parametrize("port", ["0", "65536", "73046", "9" * 5000])
def test_a_port_that_there_is_not_is_refused_before_grpc_makes_another_of_it(port: str) -> None:
    with pytest.raises(CliError, match="give one from 1 to 65535") as refused:
        Client(Session(f"127.0.0.1:{port}", "key"))
    assert refused.value.exit_code == EXIT_USAGE
    assert "TOLLMESH_ADDRESS" in refused.value.hints[0]


def test_a_key_that_is_too_long_is_refused_before_a_call() -> None:
    with pytest.raises(CliError, match="the API key has 20,000 characters") as refused:
        Client(Session("127.0.0.1:1", "k" * 20_000))
    assert refused.value.exit_code == EXIT_DENIED


def test_a_name_that_nobody_has_is_told() -> None:
    error = refused("no-such-host.invalid:7443")
    assert "the host name of no-such-host.invalid:7443" in error.message


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "not as gRPC without TLS"),
        (b"", "broke"),
    ],
)
def test_what_is_no_grpc_server_is_no_absent_mesh(answer: bytes, told: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(4_096)
                    connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        error = refused(f"127.0.0.1:{listening.getsockname()[1]}", timeout=5)
        listening.shutdown(socket.SHUT_RDWR)
    assert NOBODY not in error.message
    assert told in error.message or "did not answer in time" in error.message


def test_words_of_grpc_are_sorted() -> None:
    client = Client(Session("mesh:7443", "key"))
    for details, told in (
        ("failed to connect to all addresses; last error: Connection refused (111)", NOBODY),
        ("DNS resolution failed for mesh:7443: not found", "the host name of mesh:7443"),
        ("Socket closed", "the connection to mesh:7443 broke"),
        ("recvmsg:Connection reset by peer", "the connection to mesh:7443 broke"),
        ("GOAWAY received", "the connection to mesh:7443 broke"),
        ("upstream request timeout", "the server behind it does not"),
        ("delayed connect error: 111", "the server behind it does not"),
        ("failed to connect to all addresses; last error: Socket closed", "broke"),
        ("errors resolving mesh:7443: [hostname lookup error]", "the host name of mesh:7443"),
        ("Ssl handshake failed: WRONG_VERSION_NUMBER", "not as gRPC without TLS"),
    ):
        assert told in client._unavailable(details, answered=False)[0]
    assert clients._AGAIN in client._unavailable("Socket closed", answered=False)


@pytest.mark.parametrize(
    ("exit_code", "hints"),
    [
        (EXIT_UNAVAILABLE, ["repeat the command with --again: nothing is done twice"]),
        (EXIT_USAGE, ["correct this and repeat the command with --again: nothing is done twice"]),
        (EXIT_REFUSED, []),
    ],
)
def test_how_a_command_is_repeated(exit_code: int, hints: list[str]) -> None:
    with pytest.raises(CliError) as caught, Resumable("--again"):
        raise CliError("stopped half-way", exit_code=exit_code)
    assert [*caught.value.hints] == hints
