"""The database dies under a running mesh: it is started again, and calls and events go on by themselves."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import psycopg
from payments.contracts.v1 import contracts_pb2, contracts_service_pb2
from payments.contracts.v1.contracts_service_pb2_grpc import ContractMonitorServiceStub

from services.cli.client import Client
from services.cli.errors import EXIT_UNAVAILABLE, CliError
from tests.support.mesh.process import MeshProcess, start

RECOVERED_WITHIN_S = 30.0


def record(client: Client, request_id: str) -> contracts_service_pb2.RecordViolationsResponse:
    """Record a violation, again and again until the mesh has its database back."""
    violation = contracts_pb2.ContractViolation(
        contract_id="router/timeout", request_id=request_id, severity="HIGH", message="took 3 s"
    )
    request = contracts_service_pb2.RecordViolationsRequest(violations=[violation])
    stub = client.stub(ContractMonitorServiceStub)
    give_up_at = time.monotonic() + RECOVERED_WITHIN_S
    while True:
        try:
            return client.call(stub.RecordViolations, request)
        except CliError as error:
            assert error.exit_code == EXIT_UNAVAILABLE, error
            assert time.monotonic() < give_up_at, error
            time.sleep(0.1)


def violations(client: Client, contract_id: str) -> list[str]:
    stub = client.stub(ContractMonitorServiceStub)
    request = contracts_service_pb2.ListViolationsRequest(contract_id=contract_id)
    return [item.request_id for item in client.call(stub.ListViolations, request).violations]


def break_a_rule(client: Client) -> None:
    """Send a request that is refused: the monitor hears of it by an event."""
    stub = client.stub(ContractMonitorServiceStub)
    request = contracts_service_pb2.ListViolationsRequest(page_size=5000)
    try:
        client.call(stub.ListViolations, request)
    except CliError:
        return
    raise AssertionError("a page of 5,000 was allowed")


def await_told(client: Client) -> None:
    give_up_at = time.monotonic() + RECOVERED_WITHIN_S
    while not violations(client, "mesh/request-validation"):
        assert time.monotonic() < give_up_at, "the event never arrived"
        time.sleep(0.1)


def postmaster(data_dir: Path) -> int:
    return int((data_dir / "cluster/postmaster.pid").read_text().splitlines()[0])


def await_another(data_dir: Path, first: int) -> None:
    """Wait for the postmaster's successor: the sessions of a dead one may answer for a moment."""
    give_up_at = time.monotonic() + RECOVERED_WITHIN_S
    while True:
        # Between two postmasters the file that tells is missing, or half written.
        with contextlib.suppress(FileNotFoundError, IndexError, ValueError):
            if postmaster(data_dir) != first:
                return
        assert time.monotonic() < give_up_at, "Postgres was not started again"
        time.sleep(0.05)


def test_calls_and_events_go_on_after_the_postmaster_was_killed(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with start(data_dir) as mesh:
        with mesh.client() as client:
            assert record(client, "before").accepted == 1
            first = postmaster(data_dir)
            os.kill(first, signal.SIGKILL)
            assert record(client, "meanwhile").accepted == 1
            await_another(data_dir, first)
            assert record(client, "after").accepted == 1
            break_a_rule(client)
            await_told(client)
            assert set(violations(client, "router/timeout")) == {"before", "meanwhile", "after"}
        with psycopg.connect(mesh.ready["database_url"]) as connection:
            connection.execute("SELECT 1")
        assert mesh.stop() == 0


def test_a_mesh_that_was_killed_with_its_database_starts_again(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with start(data_dir) as mesh:
        with mesh.client() as client:
            assert record(client, "before").accepted == 1
        os.kill(postmaster(data_dir), signal.SIGKILL)
        mesh.kill()
    with start(data_dir) as mesh:
        with mesh.client() as client:
            assert violations(client, "router/timeout") == ["before"]
            assert record(client, "before").duplicate == 1
        assert mesh.stop() == 0


def test_a_second_mesh_in_the_same_directory_is_refused(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with start(data_dir) as mesh:
        with MeshProcess(data_dir) as second:
            assert not second.await_ready()
            assert str(mesh.process.pid) in second.errors()
            assert "in use" in second.errors()
        with mesh.client() as client:
            assert record(client, "still there").accepted == 1
