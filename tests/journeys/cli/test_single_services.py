"""`python -m services.<name>`: services in processes of their own, which find one another by configuration."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from payments.ledger.v1 import ledger_service_pb2, ledger_service_pb2_grpc
from payments.metering.v1 import metering_service_pb2, metering_service_pb2_grpc

from services.cli.client import Client, Session
from services.cli.commands.catalog import apply_catalog, parse_catalog
from services.cli.commands.charges import create_charge
from services.cli.periods import parse
from services.runtime.access import SCOPE_ALL, MeshTokens, Principal
from tests.support.billing.demo_job import REPOSITORY
from tests.support.postgres.server import DatabaseUrls

SECRET = "a mesh secret of tests, thirty-two characters and more"
NAMES = ("metering", "pricing", "ledger", "billing")
ENDS_WITHIN_S = 60
# A day that has ended: an open one is charged with leave only.
USED_AT = datetime.now(UTC) - timedelta(days=1)

CATALOG = {
    "skus": [
        {
            "sku": "calls",
            "type": "SKU_TYPE_ACTION",
            "unit": "call",
            "aggregation": "AGGREGATION_SUM",
        }
    ],
    "plans": [
        {
            "plan_id": "basic",
            "name": "Basic",
            "currency_code": "USD",
            "status": "STATUS_ACTIVE",
            "prices": [{"sku": "calls", "price": {"per_unit": {"unit_amount": "0.25"}}}],
        }
    ],
    "entitlements": [{"org_id": "org", "plan_id": "basic", "effective_at": "2020-01-01T00:00:00Z"}],
}


def environment(**settings: str) -> dict[str, str]:
    """This process's environment without any settings of a mesh but the given ones."""
    plain = {key: text for key, text in os.environ.items() if not key.startswith("TOLLMESH_")}
    return plain | {f"TOLLMESH_{name.upper()}": text for name, text in settings.items()}


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        taken = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [server.getsockname()[1] for server in taken]


@contextmanager
def serving(name: str, settings: dict[str, str]) -> Iterator[None]:
    """Run one service until the block ends; it has to end by itself when it is asked to."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"services.{name}"],
        cwd=REPOSITORY,
        env=environment(**settings),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("serving on port")
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(ENDS_WITHIN_S)
        assert process.stdout is not None
        process.stdout.close()
    assert code == 0


def client(address: str, tenant: str) -> Client:
    """A client of one service, as another service would call it."""
    made = Client(Session(address, ""))
    principal = Principal(tenant, "test", frozenset({SCOPE_ALL}))
    made.metadata = (("authorization", f"Mesh {MeshTokens(SECRET).issue(principal)}"),)
    return made


def test_four_processes_make_one_charge(new_database: Callable[[], DatabaseUrls]) -> None:
    urls, tenant = new_database(), f"t-{uuid4()}"
    addresses = {name: f"127.0.0.1:{port}" for name, port in zip(NAMES, free_ports(4), strict=True)}
    shared = {
        "database_url": urls.service,
        "relay_url": urls.relay,
        "mesh_secret": SECRET,
        "peers": ",".join(f"{name}={address}" for name, address in addresses.items()),
        "pool_size": "4",
    }
    with ExitStack() as stack:
        for name in NAMES:
            stack.enter_context(serving(name, {**shared, "listen": addresses[name]}))
        calls = {name: stack.enter_context(client(addresses[name], tenant)) for name in NAMES}
        apply_catalog(calls["pricing"], parse_catalog(CATALOG, "catalog"))
        ingest(calls["metering"])
        day = parse(f"{USED_AT:%Y-%m-%d}")
        charge = create_charge(calls["billing"], "org", day)
        assert (charge.total.currency_code, charge.total.minor_units) == ("USD", 75)
        again = create_charge(calls["billing"], "org", day)
        assert again.charge_id == charge.charge_id
        ledger = calls["ledger"].stub(ledger_service_pb2_grpc.LedgerServiceStub)
        request = ledger_service_pb2.GetAccountRequest(account_id="receivable:org:USD")
        balances = calls["ledger"].call(ledger.GetAccount, request).account.balances
        assert balances.debits_posted == 75


def ingest(metering: Client) -> None:
    """Three uses, of a SKU that metering hears of from pricing."""
    request = metering_service_pb2.IngestEventsRequest()
    for number in range(3):
        event = request.events.add(
            request_id=f"use-{number}", org_id="org", project_id="p", sku="calls", quantity="1"
        )
        event.event_time.FromDatetime(USED_AT)
    stub = metering.stub(metering_service_pb2_grpc.MeteringServiceStub)
    assert metering.call(stub.IngestEvents, request).accepted == 3


@pytest.mark.parametrize("name", ["metering", "events"])
def test_missing_settings_are_named(name: str) -> None:
    run = subprocess.run(
        [sys.executable, "-m", f"services.{name}"],
        cwd=REPOSITORY,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_S,
        check=False,
    )
    assert run.returncode == 2
    for setting in ("TOLLMESH_DATABASE_URL", "TOLLMESH_RELAY_URL", "TOLLMESH_MESH_SECRET"):
        assert setting in run.stderr
    assert "Traceback" not in run.stderr


def test_a_setting_out_of_its_bounds_is_named(database: DatabaseUrls) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "services.ledger"],
        cwd=REPOSITORY,
        env=environment(
            database_url=database.service,
            relay_url=database.relay,
            mesh_secret=SECRET,
            pool_size="1",
        ),
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_S,
        check=False,
    )
    assert run.returncode == 2
    assert "TOLLMESH_POOL_SIZE" in run.stderr
    assert "Traceback" not in run.stderr


def test_a_service_without_its_database_says_so(database: DatabaseUrls) -> None:
    gone = "postgresql://nobody:nothing@127.0.0.1:1/none"
    run = subprocess.run(
        [sys.executable, "-m", "services.ledger"],
        cwd=REPOSITORY,
        env=environment(
            database_url=gone, relay_url=gone, mesh_secret=SECRET, listen="127.0.0.1:0"
        ),
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_S,
        check=False,
    )
    assert run.returncode == 3
    assert "port 1 failed" in run.stderr
    assert "Traceback" not in run.stderr
