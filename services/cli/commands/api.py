"""`tollmesh api`: any RPC by the server's own description, any route of the REST facade."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import sys
import time
from typing import Annotated, Any
from urllib.parse import urlsplit
from uuid import uuid4

import typer

from services.cli import strict_json
from services.cli.client import CALL_TIMEOUT_SECONDS, Client, Session, check
from services.cli.documents import read_bytes
from services.cli.errors import (
    EXIT_DENIED,
    EXIT_FAULT,
    EXIT_REFUSED,
    EXIT_UNAVAILABLE,
    EXIT_USAGE,
    CliError,
)
from services.cli.output import as_dict, note, print_line, say

BODY_BYTES_MAX = 16 * 1024 * 1024
_VERBS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_HEADERS_MAX = 50
_PART_BYTES = 64 * 1024
_INDENT = "  "


def api(
    target: Annotated[
        str,
        typer.Argument(
            metavar="service/method | METHOD | list | describe",
            help="an RPC such as LedgerService/GetTrialBalance; or a method of HTTP, followed by a path",
        ),
    ],
    second: Annotated[
        str,
        typer.Argument(
            metavar="[BODY | PATH | NAME]",
            help="the request as JSON, @file, or - for standard input; after METHOD the path, e.g. /v1/billing/charges",
        ),
    ] = "",
    third: Annotated[str, typer.Argument(metavar="[BODY]", help="after METHOD PATH")] = "",
    header: Annotated[
        list[str] | None,
        typer.Option("--header", "-H", help="name: value; may be repeated"),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            min=0,
            help=f"seconds that a call may take, 0 for no limit; by default {CALL_TIMEOUT_SECONDS:.0f}, and no limit "
            "for a stream",
        ),
    ] = None,
) -> None:
    """Call any RPC, or any route of the REST facade, and print the answer as JSON.

    tollmesh api LedgerService/GetTrialBalance

    tollmesh api metering/QueryUsage '{"org_id": "acme", "period": {…}}'

    tollmesh api GET '/v1/billing/charges?org_id=acme'

    tollmesh api list [service], tollmesh api describe LedgerService/ListEntries

    RPCs are found by the server's own description (reflection), so newer ones work too. Of the service's name the
    package, and the ending Service, may be left out. Answers of a stream are printed one a line. A request that needs
    a request_id and has none gets a new one, which is shown: with it the call can be repeated.
    """
    given = [_header(each) for each in header or ()]
    limit = _Limit(timeout)
    if target.upper() in _VERBS:
        _rest(target.upper(), second, third, given, limit)
        return
    if third:
        raise CliError(f"{third[:100]!r} is one argument too many", exit_code=EXIT_USAGE)
    with Client(Session.find()) as client:
        _grpc(client, target, second, given, limit)


class _Limit:
    """How long a call may take, from now on.

    Args:
        given: seconds, 0 for no limit; None where the kind of the call decides.
    """

    def __init__(self, given: float | None) -> None:
        self._given = given
        self._began = time.monotonic()

    def seconds(self, *, streams: bool) -> float | None:
        """Return the whole limit; None for none."""
        if self._given is None:
            return None if streams else CALL_TIMEOUT_SECONDS
        return self._given or None

    def left(self, *, streams: bool) -> float | None:
        """Return what is left of it. Raises TimeoutError when nothing is."""
        whole = self.seconds(streams=streams)
        if whole is None:
            return None
        rest = self._began + whole - time.monotonic()
        if rest <= 0:
            raise TimeoutError
        return rest


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not (colon and name.strip()):
        raise CliError(f"--header {text[:100]!r} is not name: value", exit_code=EXIT_USAGE)
    return name.strip(), value.strip()


def _body(argument: str) -> bytes:
    """Return a body: the argument itself, a file's or standard input's."""
    if argument != "-" and not argument.startswith("@"):
        return argument.encode()
    body = read_bytes(argument.removeprefix("@"), BODY_BYTES_MAX + 1)
    if len(body) > BODY_BYTES_MAX:
        raise CliError(f"the body has more than {BODY_BYTES_MAX:,} bytes", exit_code=EXIT_USAGE)
    return body


# ---- gRPC


def _grpc(
    client: Client,
    target: str,
    second: str,
    headers: list[tuple[str, str]],
    limit: _Limit,
) -> None:
    # Imported here: REST needs none of it.
    from services.cli import reflection  # noqa: PLC0415

    server = reflection.Server(client)
    if target == "list":
        names = [each.path for each in server.methods(second)] if second else server.services()
        for name in names:
            say(name)
        return
    if target == "describe":
        _describe(server, second)
        return
    method = server.method(target)
    text = _body(second or "{}").decode("utf-8-sig", "surrogateescape")
    documents = reflection.body(text if text.strip() else "{}")
    if "request_id" in method.descriptor.input_type.fields_by_name:
        for each in documents:
            _with_request_id(each)
    metadata = [(name.lower(), value) for name, value in headers]
    streams = method.descriptor.server_streaming
    timeout = limit.seconds(streams=streams)
    # Ctrl-C is how a stream is ended.
    stops = contextlib.suppress(KeyboardInterrupt) if streams else None
    try:
        with stops or contextlib.nullcontext():
            for answer in server.call(method, documents, metadata, timeout):
                _print(as_dict(answer, pool=server.pool), one_line=streams)
    except CliError as error:
        if streams and timeout and error.code == "DEADLINE_EXCEEDED":
            raise _ended(timeout) from error
        raise


def _ended(timeout: float) -> CliError:
    return CliError(
        f"the stream was ended after {timeout:g} s, as --timeout says", exit_code=EXIT_UNAVAILABLE
    )


def _with_request_id(document: Any) -> None:
    if isinstance(document, dict) and not {"request_id", "requestId"} & document.keys():
        document["request_id"] = str(uuid4())
        note(f"request_id {document['request_id']}: repeat the call with it, and it is done once")


def _describe(server: Any, name: str) -> None:
    if not name:
        raise CliError(
            "name what to describe: a service, service/Method, or a message in full",
            exit_code=EXIT_USAGE,
        )
    if "/" in name:
        method = server.method(name)
        say(method.signature)
        for each in (method.descriptor.input_type, method.descriptor.output_type):
            _show_fields(each)
        return
    with contextlib.suppress(CliError):
        for method in server.methods(name):
            say(method.signature)
        return
    found = server.describe(name)
    if hasattr(found, "fields"):
        _show_fields(found)
        return
    say(found.full_name)
    for value in found.values:
        say(f"  {value.number:>3}  {value.name}")


def _show_fields(message: Any) -> None:
    from services.cli import reflection  # noqa: PLC0415 - as in `_grpc`

    say(message.full_name)
    rows = list(reflection.fields(message))
    width = max((len(name) for name, _ in rows), default=0)
    for name, kind in rows:
        say(f"  {name:<{width}}  {kind}")


def _print(plain: Any, *, one_line: bool) -> None:
    """Print an answer: a line for programs, indented for people."""
    is_for_people = sys.stdout.isatty() and not one_line
    for line in json_text(plain, "" if is_for_people else None).split("\n"):
        print_line(line)


def json_text(value: Any, pad: str | None) -> str:
    """Write JSON; numbers that were read as text keep all their digits.

    Args:
        pad: what stands before a line; None for all in one line.
    """
    if isinstance(value, strict_json.Number):
        return str(value)
    if not isinstance(value, dict | list) or not value:
        text = json.dumps(value, ensure_ascii=False)
        return text if text.isprintable() else json.dumps(value)
    inner = None if pad is None else pad + _INDENT
    if isinstance(value, dict):
        items = [
            f"{json_text(name, None)}: {json_text(each, inner)}" for name, each in value.items()
        ]
    else:
        items = [json_text(each, inner) for each in value]
    start, end = "{}" if isinstance(value, dict) else "[]"
    if pad is None:
        return start + ", ".join(items) + end
    lines = f",\n{inner}".join(items)
    return f"{start}\n{inner}{lines}\n{pad}{end}"


# ---- REST


def _rest(verb: str, path: str, body: str, headers: list[tuple[str, str]], limit: _Limit) -> None:
    if not path.startswith("/"):
        raise CliError(
            f"{verb} needs a path, e.g. tollmesh api {verb} /v1/billing/charges",
            exit_code=EXIT_USAGE,
        )
    session = Session.find()
    check(session)
    if not session.rest:
        raise CliError(
            "no REST facade is known for this mesh",
            "set TOLLMESH_REST_URL, or add it to the profile with --rest; without one, call the RPC: "
            "tollmesh api list",
            exit_code=EXIT_USAGE,
        )
    content = _body(body) if body else None
    sent = {"Accept": "application/json", "User-Agent": "tollmesh"}
    if session.api_key:
        sent["Authorization"] = f"Bearer {session.api_key}"
    if content is not None:
        sent["Content-Type"] = "application/json"
    sent |= {name.title(): value for name, value in headers}
    _exchange(session.rest, (verb, path, content, sent), limit)


def _show(kind: str, answer: bytes) -> None:
    if not answer:
        return
    if "json" in kind:
        with contextlib.suppress(ValueError):
            _print(strict_json.decode(answer.decode()), one_line=False)
            return
    if sys.stdout.isatty():
        for line in answer.decode(errors="replace").splitlines():
            say(line)
        return
    sys.stdout.buffer.write(answer)
    sys.stdout.flush()


def _exchange(
    base: str, request: tuple[str, str, bytes | None, dict[str, str]], limit: _Limit
) -> None:
    """Make one request (method, path, body, headers) and print what is answered. Raises CliError."""
    connection = _connection(base, limit)
    verb, path, body, headers = request
    with contextlib.closing(connection):
        streams, kind, answer = False, "", b""
        try:
            connection.request(verb, urlsplit(base).path.rstrip("/") + path, body, headers)
            sock = connection.sock
            response = connection.getresponse()
            kind = response.headers.get("Content-Type", "")
            streams = response.status < 400 and response.length is None and verb != "HEAD"
            with contextlib.suppress(KeyboardInterrupt) if streams else contextlib.nullcontext():
                answer = _streamed(response, sock, limit, kind) if streams else response.read()
        except (http.client.InvalidURL, UnicodeError, ValueError) as error:
            raise CliError(
                f"{path[:200]!r} is no path: escape what a URL cannot hold ({error})",
                exit_code=EXIT_USAGE,
            ) from error
        except TimeoutError as error:
            seconds = limit.seconds(streams=streams) or 0
            if streams:
                raise _ended(seconds) from error
            raise CliError(
                f"{base} did not answer within {seconds:g} s",
                "what changes something may have been done: repeat it with the same ids, and it is done only once",
                "--timeout allows it more time",
                exit_code=EXIT_UNAVAILABLE,
            ) from error
        except (OSError, http.client.HTTPException) as error:
            if streams:
                raise CliError(
                    f"the stream of {base} broke ({error or type(error).__name__})",
                    "call again; where the answers have a cursor, with the last one as `after`",
                    exit_code=EXIT_UNAVAILABLE,
                ) from error
            raise CliError(
                f"no REST facade answers at {base} ({error or type(error).__name__})",
                "start one with `tollmesh up`, or correct TOLLMESH_REST_URL or the profile",
                exit_code=EXIT_UNAVAILABLE,
            ) from error
    if response.status >= 400:
        raise _refused(response.status, answer)
    _show(kind, answer)


def _connection(base: str, limit: _Limit) -> http.client.HTTPConnection:
    url = urlsplit(base)
    timeout = limit.seconds(streams=False)
    try:
        port = url.port
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError
    except ValueError as error:
        raise CliError(
            f"{base[:200]!r} is no URL of a REST facade: write http://host:port",
            exit_code=EXIT_USAGE,
        ) from error
    if url.scheme == "http":
        return http.client.HTTPConnection(url.hostname, port, timeout=timeout)
    context = ssl.create_default_context()
    return http.client.HTTPSConnection(url.hostname, port, timeout=timeout, context=context)


def _streamed(response: http.client.HTTPResponse, sock: Any, limit: _Limit, kind: str) -> bytes:
    """Print an answer of unknown length line by line as it comes.

    Returns:
        What had no line end: the whole answer where it was no stream.
    """
    held: list[bytes] = []
    while True:
        sock.settimeout(limit.left(streams=True))
        # Not `readline`, which takes a connection that breaks for the end of the answer.
        came = response.read1(_PART_BYTES)
        if not came:
            return b"".join(held)
        first, *others = came.split(b"\n")
        held.append(first)
        for other in others:
            _show_line(kind, b"".join(held).decode(errors="replace").rstrip("\r"))
            held = [other]


def _show_line(kind: str, text: str) -> None:
    if "json" in kind:
        with contextlib.suppress(ValueError):
            _print(strict_json.decode(text), one_line=True)
            return
    print_line(text)


def _refused(status: int, answer: bytes) -> CliError:
    """Say what the facade said; its error body is google.rpc.Status."""
    exits = {401: EXIT_DENIED, 403: EXIT_DENIED, 503: EXIT_UNAVAILABLE, 504: EXIT_UNAVAILABLE}
    code = exits.get(status, EXIT_FAULT if status == 500 else EXIT_REFUSED)
    message, hints, reason = f"HTTP {status}", [], ""
    try:
        told = json.loads(answer)
        message = f"HTTP {status}: {told['message']}"
        for detail in told.get("details", ()):
            reason = reason or str(detail.get("reason", ""))
            hints += [
                f"{each.get('field', '')}: {each.get('description', '')}"
                for each in detail.get("field_violations", ())
            ]
    except (ValueError, KeyError, TypeError, AttributeError):
        hints = [answer[:1000].decode(errors="replace")] if answer else []
    return CliError(message, *hints[:20], exit_code=code, reason=reason)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(no_args_is_help=True)(api)
