"""What users install works without this tree: the server's wheel, the Python client's, the Go module."""

import json
import os
import re
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.journeys.sdk.conftest import Installed
from tests.support.http import rest
from tests.support.sdk.packages import REPOSITORY, Environment, clean, run

# One worker runs all of them, with one mesh.
pytestmark = pytest.mark.xdist_group("sdk")

EXAMPLES = REPOSITORY / "sdk/python/examples"
# In this order, since some look at what others made; each with what it says when all went well.
SAID = {
    "billing": (
        "chg_",
        ": 700 USD",
        "receivable:example-python:USD DEBIT 700, from revenue:example.calls:USD",
    ),
    "billing_async": ("example.calls in ",),
    "metering": ("REJECTED UNKNOWN_SKU: call-", "example.calls 10 in 1 events", " in 5 events"),
    "catalog": (
        "would change: {",
        "example.calls by the call",
        "example-python USD ['example.calls']",
        "not there: NOT_FOUND",
        "refused: INVALID_FIELD ['catalog.skus[0].sku']",
    ),
    "pricing": ("1,500 units: 2500 cents", "example.calls: 240 for 7.0", "3 calls for each of 200"),
    "ledger": ("OK\nEXISTS\n[100000]\n", "EUR difference 0"),
    "merchant_config": ("version 1", "['wallet', 'card']"),
    "payment": ("[('wallet', 2000), ('card', 3684)]", "SUCCEEDED True", "[5684]", "page_size"),
    "contract_monitor": ("['ACCEPTED']", "1 recorded []", "MEDIUM told after 95 s"),
    "event": ("REJECTED EVENT_PAYLOAD_INVALID", 'told: b\'{"sku": "bolt"', "stock.moved bolt"),
    "access": ("1 charges", "SCOPE_MISSING metering:write", "UNAUTHENTICATED"),
}
# What they say the second time, where it is something else.
SAID_AGAIN = SAID | {
    "metering": ("REJECTED UNKNOWN_SKU: call-", "example.calls 10 in 1 events"),
    "ledger": ("OK\nEXISTS\n[100000, 200000]\n", "EUR difference 0"),
    "merchant_config": ("version ", "['wallet', 'card']"),
    "contract_monitor": ("['DUPLICATE']", "1 recorded []", "MEDIUM told after 95 s"),
}
# Runs them in one process, which saves the loading.
DRIVER = """
import runpy, sys
for name in sys.argv[2:]:
    print(f"== {name}")
    runpy.run_path(f"{sys.argv[1]}/{name}.py")
"""


def test_the_servers_wheel_serves_grpc_and_rest(mesh: Installed) -> None:
    tollmesh = mesh.environment.program("tollmesh")
    checks = json.loads(run(tollmesh, "doctor", "--output", "json", cwd=mesh.folder))["checks"]
    by_name = {check["name"]: check for check in checks}
    assert [check for check in checks if not check["ok"]] == []
    assert by_name["mesh"]["detail"] == f"running at {mesh.grpc}"
    facade = by_name["rest gateway"]["detail"]
    assert facade.startswith("0.1.0, ")
    assert f"{mesh.environment.folder}" in facade
    assert by_name["REST"]["detail"] == f"ready at {mesh.rest}"
    request = urllib.request.Request(
        f"{mesh.rest}/v1/billing/charges", headers={"Authorization": f"Bearer {mesh.api_key}"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert json.load(answer) == {"charges": [], "next_page_token": ""}
    # Who has the wheel can verify what was exported, without an import of the server.
    told = run(mesh.environment.program("python"), "-I", "-m", "tollmesh_verify", "--help")
    assert "0 verified" in told
    # Go's source and the clients' code are no part of it, and nothing was written beside the data.
    site = next(mesh.environment.folder.glob("lib/python*/site-packages"))
    assert not (site / "payments_sdk").exists()
    assert list((site / "services/gateway").glob("**/*.go")) == []
    assert [path.name for path in mesh.folder.iterdir()] == [".tollmesh"]


def test_the_client_installs_without_the_server(python: Environment) -> None:
    installed = python.packages()
    assert {"betterproto2", "grpcio", "tollmesh-client"} <= installed
    servers = {"tollmesh", "protobuf", "psycopg", "pydantic", "pyarrow", "sqlalchemy"}
    assert not servers & installed
    version = "import tollmesh_client; print(tollmesh_client.__version__)"
    assert run(python.program("python"), "-c", version, cwd=python.folder) == "0.1.0\n"


def bill_by_quickstart(mesh: Installed, tenant: dict[str, str], folder: Path) -> Callable[[], str]:
    """Take a tenant through the README's quickstart up to its charge; gives what tells its state."""

    def tollmesh(*arguments: str) -> str:
        program = mesh.environment.program("tollmesh")
        return run(program, *arguments, cwd=folder, environment=tenant)

    tollmesh("quickstart")
    tollmesh("catalog", "apply", "quickstart/catalog.yaml")
    tollmesh("merchants", "put", "quickstart/merchant.yaml")
    tollmesh("ingest", "quickstart/usage.csv")
    month = f"{datetime.now(UTC):%Y-%m}"
    charge = tollmesh("charge", "acme", "--period", month, "--allow-open", "--quiet").strip()

    def state() -> str:
        return (
            tollmesh("catalog", "diff", "quickstart/catalog.yaml")
            + tollmesh("usage", "acme", "--period", month)
            + tollmesh("explain", charge)
        )

    return state


def test_every_service_has_an_example_that_runs_twice_beside_the_quickstart(
    mesh: Installed,
    python: Environment,
    new_tenant: Callable[[], dict[str, str]],
    tmp_path: Path,
) -> None:
    assert set(SAID) == {path.stem for path in EXAMPLES.glob("*.py")}
    tenant = new_tenant()
    state = bill_by_quickstart(mesh, tenant, tmp_path)
    before = state()
    folder = tmp_path / "examples"
    shutil.copytree(EXAMPLES, folder)
    program = python.program("python")
    for all_expected in (SAID, SAID_AGAIN):
        said = run(program, "-c", DRIVER, folder, *SAID, cwd=tmp_path, environment=tenant)
        parts = dict(part.split("\n", 1) for part in said.split("== ")[1:])
        for name, expected in all_expected.items():
            for text in expected:
                assert text in parts[name], parts[name]
    assert state() == before


def test_the_page_of_the_client_runs_as_printed(
    python: Environment, new_tenant: Callable[[], dict[str, str]], tmp_path: Path
) -> None:
    page = (REPOSITORY / "sdk/python/README.md").read_text(encoding="utf-8")
    charges, usage = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    tenant, program = new_tenant(), python.program("python")
    run(program, EXAMPLES / "billing.py", cwd=tmp_path, environment=tenant)
    said = run(program, "-c", charges, cwd=tmp_path, environment=tenant)
    assert re.fullmatch(r"chg_\S+ 700 USD\n", said)
    for _ in range(2):
        said = run(program, "-c", usage, cwd=tmp_path, environment=tenant)
        assert said == "1 accepted\n"


INGEST = """
import os, signal, sys, threading
from datetime import datetime, timezone
from payments_sdk.payments.metering.v1 import UsageEvent
from tollmesh_client import Client, IngestOptions, SpoolOptions, UsageIngester

spool, first, count, end = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
at = datetime.now(timezone.utc)
added = threading.Event()

def kill(*_):
    added.wait()
    os.kill(os.getpid(), signal.SIGKILL)

def rejected(verdict):
    if verdict.outcome != "DUPLICATE":
        print(verdict, flush=True)

with Client() as client:
    ingester = UsageIngester(
        client, IngestOptions(batch_rows=100, in_flight=2), spool=SpoolOptions(spool),
        on_verdict=rejected, on_receipt=kill if end == "at the first receipt" else None,
    )
    for number in range(first, first + count):
        ingester.add(UsageEvent(org_id="acme", sku="api.calls", quantity="1", event_time=at))
    added.set()
    if end == "before anything is sent":
        kill()
    ingester.flush(60)
    stats = ingester.close()
    print(stats.accepted, stats.duplicate, stats.pending)
"""
CATALOGUE = """
from payments_sdk.payments.pricing import v1 as pricing
from payments_sdk.payments.type.v1 import Aggregation
from tollmesh_client import Client
sku = pricing.Sku(sku="api.calls", type=pricing.SkuType.ACTION, unit="call", aggregation=Aggregation.SUM)
with Client() as client:
    client.catalog.apply_catalog(pricing.ApplyCatalogRequest(catalog=pricing.Catalog(skus=[sku])))
"""
USAGE = """
from datetime import datetime, timedelta, timezone
from payments_sdk.payments.metering.v1 import QueryUsageRequest
from payments_sdk.payments.type.v1 import Period
from tollmesh_client import Client
now = datetime.now(timezone.utc)
period = Period(start_at=now - timedelta(hours=2), end_at=now + timedelta(seconds=1))
with Client() as client:
    for row in client.metering.query_usage(QueryUsageRequest(org_id="acme", period=period)).rows:
        print(row.value, row.event_count)
"""


def test_no_event_is_lost_or_counted_twice_when_mesh_or_sender_are_away(
    python: Environment, new_tenant: Callable[[], dict[str, str]], tmp_path: Path
) -> None:
    tenant, program = new_tenant(), python.program("python")
    # Nobody listens on port 1.
    nowhere = tenant | {"TOLLMESH_ADDRESS": "127.0.0.1:1"}
    run(program, "-c", CATALOGUE, cwd=tmp_path, environment=tenant)

    def killed(environment: dict[str, str], first: int, end: str) -> None:
        done = subprocess.run(
            [program, "-c", INGEST, tmp_path / "spool", str(first), "500", end],
            env=clean(environment),
            capture_output=True,
            check=False,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert done.stdout == b""

    killed(nowhere, 0, "before anything is sent")
    killed(tenant, 500, "at the first receipt")
    last = (program, "-c", INGEST, tmp_path / "spool", "1000", "10", "well")
    said = run(*last, cwd=tmp_path, environment=tenant)
    accepted, duplicate, pending = map(int, said.split())
    # Of the second one's two batches in flight one was stored at least, and none was forgotten: they came again.
    assert duplicate in (100, 200)
    assert (accepted + duplicate, pending) == (1010, 0)
    assert run(program, "-c", USAGE, cwd=tmp_path, environment=tenant) == "1010 1010\n"


def test_the_go_module_is_imported_from_elsewhere_and_bills(
    mesh: Installed, new_tenant: Callable[[], dict[str, str]], tmp_path: Path
) -> None:
    """As the guide has it typed, in a module beside the clone."""
    guide = (REPOSITORY / "docs/guides/clients.md").read_text(encoding="utf-8")
    (commands,) = re.findall(r"^```sh\n([^`]*go mod edit[^`]*)^```$", guide, re.MULTILINE)
    (tmp_path / "tollmesh").symlink_to(REPOSITORY)
    user = tmp_path / "bill"
    user.mkdir()
    shutil.copy(REPOSITORY / "sdk/go/example/main.go", user)
    # Its versions come from the module alone.
    shutil.copy(REPOSITORY / "gen/go/go.sum", user)
    go = Path(rest.go())
    tidy = {"GOTOOLCHAIN": "local", "PATH": f"{go.parent}:{os.environ['PATH']}"}
    run(go, "mod", "init", "example.com/bill", cwd=user, environment=tidy)
    run("bash", "-ec", commands, cwd=user, environment=tidy)
    tenant = new_tenant()
    state = bill_by_quickstart(mesh, tenant, tmp_path)
    before = state()
    said = run(user / "bill", cwd=user, environment=tenant)
    assert "24 accepted, 0 duplicate, 0 problems" in said
    assert ": 700 USD" in said
    assert "receivable:example-go:USD DIRECTION_DEBIT 700 from revenue:example.calls:USD" in said
    again = run(user / "bill", cwd=user, environment=tenant)
    assert again == said.replace("24 accepted, 0 duplicate, 0", "0 accepted, 24 duplicate, 24")
    assert state() == before
