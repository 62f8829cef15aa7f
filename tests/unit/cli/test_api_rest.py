"""How `tollmesh api METHOD PATH` takes what a facade answers, in time or not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from services.cli.commands.api import _exchange, _Limit
from services.cli.errors import EXIT_UNAVAILABLE, CliError
from services.cli.output import ReaderGone

Answer = Callable[[BaseHTTPRequestHandler], None]


class Facade:
    """Answers each request as it is told, on a port of its own."""

    def __init__(self) -> None:
        self.goes_on = threading.Event()
        self.answer: Answer = lambda _handler: None
        facade = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                facade.answer(self)
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def get(self, timeout: float | None = None) -> None:
        _exchange(self.url, ("GET", "/x", None, {}), _Limit(timeout))


@pytest.fixture
def facade() -> Iterator[Facade]:
    made = Facade()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.goes_on.set()
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def chunked(*chunks: bytes, kind: str = "application/json", ends: bool = True) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", kind)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for chunk in chunks:
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        if ends:
            handler.wfile.write(b"0\r\n\r\n")

    return answer


def test_a_stream_is_printed_as_it_comes(
    facade: Facade, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    printed: list[str] = []

    def waiting(handler: BaseHTTPRequestHandler) -> None:
        chunked(b'{"result":{"n":"1"}}\n{"resu', ends=False)(handler)
        assert facade.goes_on.wait(30), "the first line is printed before the second one comes"
        rest = b'lt":{"n":"2"}}\n'
        handler.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(rest), rest))

    def shown(text: str) -> None:
        printed.append(text)
        facade.goes_on.set()

    facade.answer = waiting
    monkeypatch.setattr("services.cli.commands.api.print_line", shown)
    facade.get()
    assert printed == ['{"result": {"n": "1"}}', '{"result": {"n": "2"}}']
    facade.answer = chunked(b"id: 1\ndata: {}\n\n", kind="text/event-stream")
    facade.get()
    assert printed[2:] == ["id: 1", "data: {}", ""]
    assert capsys.readouterr().out == ""


def test_a_whole_answer_in_chunks_is_one_document(
    facade: Facade, capsys: pytest.CaptureFixture[str]
) -> None:
    facade.answer = chunked(b'{"entries":', b"[]}")
    facade.get()
    assert capsys.readouterr().out == '{"entries": []}\n'


def test_what_takes_too_long_is_told_as_that(facade: Facade) -> None:

    def mute(_handler: BaseHTTPRequestHandler) -> None:
        facade.goes_on.wait(30)

    facade.answer = mute
    with pytest.raises(CliError, match=r"did not answer within 0\.05 s") as late:
        facade.get(0.05)
    assert late.value.exit_code == EXIT_UNAVAILABLE
    assert "only once" in late.value.hints[0]

    def silent(handler: BaseHTTPRequestHandler) -> None:
        chunked(ends=False)(handler)
        facade.goes_on.wait(30)

    facade.answer = silent
    with pytest.raises(CliError, match="ended after 1 s, as --timeout says"):
        facade.get(1)


def test_a_stream_that_breaks_is_told_as_that(
    facade: Facade, monkeypatch: pytest.MonkeyPatch
) -> None:
    facade.answer = chunked(b"{}\n", ends=False)
    with pytest.raises(CliError, match=r"the stream of .* broke"):
        facade.get()

    def gone(_text: str) -> None:
        raise ReaderGone

    monkeypatch.setattr("services.cli.commands.api.print_line", gone)
    with pytest.raises(ReaderGone):
        facade.get()
