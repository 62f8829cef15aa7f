"""The command line in this process, against one mesh that runs as its users run it."""

from __future__ import annotations

import io
import json
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from uuid import uuid4

import pytest
from payments.config.v1 import config_pb2
from payments.metering.v1 import metering_service_pb2, metering_service_pb2_grpc
from payments.orchestration.v1 import orchestration_service_pb2, orchestration_service_pb2_grpc

from services.cli import __main__, output
from tests.support.mesh.process import MeshProcess, start


@dataclass(frozen=True, slots=True)
class Done:
    """What a command did."""

    exit_code: int
    out: str
    err: str

    def json(self) -> Any:
        """The one document on standard output."""
        assert self.out.count("\n") == 1, self.out
        return json.loads(self.out)


Tollmesh = Callable[..., Done]


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MeshProcess]:
    """A mesh whose tenant takes usage of years past and has a merchant."""
    folder = tmp_path_factory.mktemp("cli") / "data"
    with start(folder, rest=True, arguments=("--webhook-allow", "127.0.0.1/32")) as running:
        with running.client() as client:
            metering = client.stub(metering_service_pb2_grpc.MeteringServiceStub)
            window = metering_service_pb2.UpdateIngestSettingsRequest(request_id=str(uuid4()))
            window.accept_past.seconds = 3660 * 86_400
            client.call(metering.UpdateIngestSettings, window)
            merchants = client.stub(orchestration_service_pb2_grpc.MerchantConfigServiceStub)
            config = config_pb2.MerchantConfig(merchant_id="shop")
            config.methods.add(method="card", processor_id="sandbox-card")
            put = orchestration_service_pb2.PutMerchantConfigRequest(
                request_id=str(uuid4()), config=config
            )
            client.call(merchants.PutMerchantConfig, put)
        yield running


@pytest.fixture
def tollmesh(
    mesh: MeshProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Tollmesh:
    """Run a command with the operator's key: `tollmesh("charges", stdin=b"")`."""
    monkeypatch.setenv("TOLLMESH_ADDRESS", mesh.ready["grpc"])
    monkeypatch.setenv("TOLLMESH_API_KEY", mesh.ready["api_key"])
    monkeypatch.setenv("TOLLMESH_REST_URL", mesh.ready["rest"])
    # Of the person who runs the tests no profile holds.
    monkeypatch.setenv("TOLLMESH_CONFIG_DIR", str(mesh.data_dir / "no-profiles"))
    # As into a pipe; pytest-xdist gives its workers a terminal's COLUMNS.
    monkeypatch.setattr(output.console, "width", 200)

    def run(*arguments: str, stdin: bytes = b"") -> Done:
        monkeypatch.setattr(sys, "argv", ["tollmesh", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            __main__.main()
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        code = ended.value.code
        assert isinstance(code, int)
        return Done(code, printed.out, printed.err)

    return run


class Receiver:
    """Takes requests down and answers with a status."""

    def __init__(self) -> None:
        self.status = 200
        self.received: list[tuple[dict[str, str], bytes]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.received.append((dict(self.headers.items()), body))
                self.send_response(receiver.status)
                self.end_headers()
                self.wfile.write(b"heard")

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/hook"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()
