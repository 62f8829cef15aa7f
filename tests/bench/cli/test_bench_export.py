"""`tollmesh export entries` against what one connection COPYs of the same rows into the same kind of file.

TOLLMESH_EXPORT_ENTRIES sets how many entries there are; 100,000 unless set.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from payments.ledger.v1 import ledger_pb2, ledger_service_pb2, ledger_service_pb2_grpc
from payments.type.v1.type_pb2 import Money
from pyarrow import parquet

from services.runtime.ids import new_uuid
from tests.support.measures.figures import tell
from tests.support.mesh.process import MeshProcess, start

ENTRIES = int(os.environ.get("TOLLMESH_EXPORT_ENTRIES", "100000"))
BATCH = 5_000
ACCOUNTS = 100
MIB_MAX = 200

_COPY = """
COPY (SELECT e.account_id, e.seq, e.transfer_id, CASE WHEN e.amount_minor > 0 THEN 'debit' ELSE 'credit' END,
             abs(e.amount_minor), e.balance_after_minor, t.currency_code,
             CASE WHEN t.debit_account_id = e.account_id THEN t.credit_account_id ELSE t.debit_account_id END,
             t.code, t.recorded_at, t.effective_at, t.metadata
        FROM ledger.entry AS e
        JOIN ledger.transfer AS t ON t.tenant_id = e.tenant_id AND t.transfer_id = e.transfer_id
       WHERE e.tenant_id = 'default'
       ORDER BY e.account_id, e.seq) TO STDOUT (FORMAT csv, HEADER)
"""


@dataclass(frozen=True, slots=True)
class Run:
    """What a command took."""

    seconds: float
    cpu_seconds: float
    peak_mib: float


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MeshProcess]:
    """A mesh whose ledger has many entries."""
    with start(tmp_path_factory.mktemp("bench-cli") / "data") as running:
        with running.client() as client:
            stub = client.stub(ledger_service_pb2_grpc.LedgerServiceStub)
            names = [f"account-{n:03}" for n in range(ACCOUNTS)]
            made = [
                ledger_pb2.Account(
                    account_id=name, currency_code="USD", type=ledger_pb2.ACCOUNT_TYPE_ASSET
                )
                for name in names
            ]
            client.call(
                stub.CreateAccounts, ledger_service_pb2.CreateAccountsRequest(accounts=made)
            )
            for first in range(0, ENTRIES // 2, BATCH):
                transfers = [
                    ledger_pb2.Transfer(
                        transfer_id=str(new_uuid()),
                        debit_account_id=names[n % ACCOUNTS],
                        credit_account_id=names[(n + 1) % ACCOUNTS],
                        amount=Money(currency_code="USD", minor_units=1 + n % 1000),
                    )
                    for n in range(first, min(first + BATCH, ENTRIES // 2))
                ]
                client.call(
                    stub.PostTransfers,
                    ledger_service_pb2.PostTransfersRequest(transfers=transfers),
                )
        yield running


# A child's ru_maxrss begins with what its parent held; the mark of its own address space does not.
_COMMAND = """
import resource, sys
from services.cli.__main__ import main
try:
    main()
finally:
    used = resource.getrusage(resource.RUSAGE_SELF)
    mark = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(used.ru_utime + used.ru_stime, mark, file=sys.stderr)
"""


def exported(mesh: MeshProcess, out: Path) -> Run:
    """Run the command in a process of its own."""
    environment = os.environ | {
        "TOLLMESH_ADDRESS": mesh.ready["grpc"],
        "TOLLMESH_API_KEY": mesh.ready["api_key"],
    }
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _COMMAND, "export", "entries", "--out", str(out)],
        env=environment,
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    cpu_seconds, peak_kib = done.stderr.split()[-2:]
    return Run(time.perf_counter() - started, float(cpu_seconds), int(peak_kib) / 1024)


def copied(mesh: MeshProcess, out: Path) -> float:
    """COPY the same columns of the same rows; returns the seconds."""
    with psycopg.connect(mesh.ready["database_url"]) as connection:
        connection.execute("SELECT set_config('mesh.tenant', 'default', false)")
        connection.execute("ANALYZE")
        started = time.perf_counter()
        with connection.cursor().copy(_COPY) as copy, out.open("wb") as file:
            for part in copy:
                file.write(part)
        return time.perf_counter() - started


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_entries_to_a_file(mesh: MeshProcess, tmp_path: Path, ending: str) -> None:
    floor = copied(mesh, tmp_path / "floor.csv")
    out = tmp_path / f"entries.{ending}"
    run = exported(mesh, out)
    if ending == "parquet":
        assert parquet.read_metadata(out).num_rows == ENTRIES
    else:
        with out.open("rb") as file:
            assert sum(1 for _ in file) == ENTRIES + (ending == "csv")
    tell(
        "cli",
        f"export entries, {ENTRIES:,} rows to {ending}",
        f"{run.seconds:.1f} s ({run.cpu_seconds:.1f} s of CPU), peak {run.peak_mib:.0f} MiB",
        floor=f"COPY TO of the same rows: {floor:.1f} s",
        ratio=f"{run.seconds / floor:.2f}",
        target=f"< {MIB_MAX} MiB",
    )
    assert run.peak_mib < MIB_MAX
