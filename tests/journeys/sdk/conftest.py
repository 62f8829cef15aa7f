"""A mesh that was installed from its wheel, and the Python client from its own."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from payments.access.v1 import access_service_pb2, access_service_pb2_grpc

from services.cli.client import Client, Session
from services.runtime.processes import tied_to_parent
from tests.support.http import rest
from tests.support.sdk.packages import REPOSITORY, Environment, build_wheel, clean

STOPS_WITHIN_S = 60


@dataclass(frozen=True, slots=True)
class Installed:
    """A mesh from the server's wheel.

    Attributes:
        environment: where it is installed.
        folder: where it was started; empty before.
        grpc, rest, api_key: as it announced them.
    """

    environment: Environment
    folder: Path
    grpc: str
    rest: str
    api_key: str


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """Install the server's wheel into an empty environment, and run `tollmesh up` in an empty directory."""
    folder = tmp_path_factory.mktemp("server")
    wheel = build_wheel(REPOSITORY, folder / "dist", TOLLMESH_GATEWAY=str(rest.binary()))
    environment = Environment(folder / "env", wheel)
    empty = folder / "empty"
    empty.mkdir()
    command = [str(environment.program("tollmesh")), "up", "--output", "json"]
    with (folder / "log").open("w+") as log:
        process = subprocess.Popen(
            tied_to_parent([*command, "--grpc-port", "0", "--rest-port", "0"]),
            cwd=empty,
            stdout=subprocess.PIPE,
            stderr=log,
            # No Go: the facade is the wheel's.
            env=clean({"PATH": "/usr/bin:/bin"}),
        )
        try:
            assert process.stdout is not None
            with process.stdout as announced:
                line = announced.readline()
            log.seek(0)
            assert line, log.read()
            told = json.loads(line)
            yield Installed(environment, empty, told["grpc"], told["rest"], told["api_key"])
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(STOPS_WITHIN_S)


@pytest.fixture
def new_tenant(mesh: Installed) -> Callable[[], dict[str, str]]:
    """Make tenants: each call gives the environment of a client of another one."""

    def make() -> dict[str, str]:
        with Client(Session(mesh.grpc, mesh.api_key)) as client:
            stub = client.stub(access_service_pb2_grpc.AccessServiceStub)
            request = access_service_pb2.CreateApiKeyRequest(
                request_id=str(uuid4()), name="sdk", scopes=["*"], tenant_id=f"t-{uuid4()}"
            )
            secret = client.call(stub.CreateApiKey, request).secret
        return {"TOLLMESH_ADDRESS": mesh.grpc, "TOLLMESH_API_KEY": secret}

    return make


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Install the client's wheel into an empty environment."""
    folder = tmp_path_factory.mktemp("client")
    wheel = build_wheel(REPOSITORY / "sdk/python", folder / "dist")
    return Environment(folder / "env", wheel)
