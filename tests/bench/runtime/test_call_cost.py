"""What one call costs beside an earlier build of the product, in one run and by turns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from statistics import median

import pytest

from tests.support.measures.figures import tell

REPOSITORY = Path(__file__).parents[3]
PROGRAM = Path(__file__).with_name("call_cost.py")
# The last build before statements went to Postgres in one go.
BASE = os.environ.get("TOLLMESH_BENCH_BASE", "071b8bf6aea3f6bdbdb1b91d1e8451f11ca0913e")
SECONDS = 4
ROUNDS = 2


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of the earlier build. It runs in this environment, so its dependencies must be those of today."""
    folder = tmp_path_factory.mktemp("base") / "checkout"
    archive = folder.with_suffix(".tar")
    git = ["git", "-C", str(REPOSITORY)]
    subprocess.run([*git, "archive", "--output", str(archive), BASE], check=True)
    folder.mkdir()
    subprocess.run(["tar", "-xf", str(archive), "-C", str(folder)], check=True)
    return folder


def rows(checkout: Path, callers: int) -> list[dict[str, float]]:
    """Measure a checkout."""
    paths = os.pathsep.join(map(str, (checkout, checkout / "gen" / "python")))
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(callers), str(SECONDS)],
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("callers", [1, 16, 64])
def test_one_call_beside_an_earlier_build(base: Path, callers: int) -> None:
    found: dict[str, dict[str, list[dict[str, float]]]] = defaultdict(lambda: defaultdict(list))
    for _ in range(ROUNDS):
        for name, checkout in (("before", base), ("now", REPOSITORY)):
            for row in rows(checkout, callers):
                found[str(row["what"])][name].append(row)
    for what, builds in found.items():
        before, now = middle(builds["before"]), middle(builds["now"])
        ratio = spent(now) / spent(before)
        tell(
            "call",
            f"{what}, {callers} callers: CPU of the mesh and of Postgres, reactions included",
            told(now),
            floor=f"before: {told(before)}",
            ratio=f"{ratio:.2f}",
        )
        assert ratio < 1


def middle(measured: list[dict[str, float]]) -> dict[str, float]:
    """Return the medians of several rounds."""
    return {name: median(row[name] for row in measured) for name in measured[0] if name != "what"}


def spent(row: dict[str, float]) -> float:
    """CPU milliseconds a call."""
    return row["mesh_cpu_ms"] + row["postgres_cpu_ms"]


def told(row: dict[str, float]) -> str:
    """Say what a row says."""
    return (
        f"{row['mesh_cpu_ms']:.2f} + {row['postgres_cpu_ms']:.2f} ms; {row['calls_a_second']:,.0f}/s,"
        f" p50 {row['p50_ms']:.1f} ms, p99 {row['p99_ms']:.1f} ms"
    )
