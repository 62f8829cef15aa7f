"""import-linter refuses what the rules of pyproject.toml forbid: seen on planted imports."""

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[3]
LINTER = Path(sysconfig.get_path("scripts"), "lint-imports")

SIDE_BY_SIDE = "Services know the runtime, and one another only by their schemas"
KNOWN_BY_MANIFEST = "The command line and its mesh know of a service only the manifest"
ROOMS = "Rooms of a service depend downwards"
WORDS = "Use cases speak the words of the domain"
# Rule, file and import that breaks it.
PLANTS = [
    (SIDE_BY_SIDE, "pricing/app.py", "from services.ledger import store as planted"),
    (SIDE_BY_SIDE, "runtime/clock.py", "from services.ledger import domain as planted"),
    (SIDE_BY_SIDE, "runtime/process/node.py", "from services.local import postgres as planted"),
    (SIDE_BY_SIDE, "local/mesh.py", "from services.cli import errors as planted"),
    (SIDE_BY_SIDE, "another/__init__.py", ""),
    (
        "The unit of work stands on what it writes, and whoever uses one stands on it",
        "runtime/outbox/timer_setting.py",
        "from services.runtime.events import envelope as planted",
    ),
    (
        "No two rooms of the runtime import one another",
        "runtime/outbox/registry.py",
        "from services.runtime.events import alarms as planted",
    ),
    (
        "The runtime knows no payload of a service",
        "runtime/database.py",
        "from payments.events.v1 import ledger_events_pb2 as planted",
    ),
    (ROOMS, "metering/store.py", "from services.metering.app import late as planted"),
    (
        ROOMS,
        "orchestration/messages/payments.py",
        "from services.orchestration import app as planted",
    ),
    (ROOMS, "ledger/helpers.py", ""),
    (WORDS, "ledger/app.py", "from payments.ledger.v1 import ledger_pb2 as planted"),
    (WORDS, "events/app/feed.py", "from services.events.messages import feed as planted"),
    (
        "Domain rules do no I/O, read no clock and see no protobuf",
        "metering/domain.py",
        "import sqlalchemy as planted",
    ),
    (KNOWN_BY_MANIFEST, "cli/output.py", "from services.metering import app as planted"),
    (KNOWN_BY_MANIFEST, "local/mesh.py", "from services.metering import app as planted"),
    (KNOWN_BY_MANIFEST, "cli/output.py", "from services.metering import bootstrap as planted"),
]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the code that may be spoilt."""
    ignore = shutil.ignore_patterns("__pycache__", "gateway", "data")
    shutil.copytree(ROOT / "services", tmp_path / "services", ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(tree: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(tree)}
    return subprocess.run(
        [str(LINTER), "--no-cache"],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_our_imports_keep_every_rule(tree: Path) -> None:
    run = lint(tree)
    assert run.returncode == 0, run.stdout
    rules = {rule for rule, _, _ in PLANTS}
    assert f"Contracts: {len(rules)} kept, 0 broken." in run.stdout


@pytest.mark.parametrize(("rule", "name", "statement"), PLANTS)
def test_a_planted_import_breaks_its_rule(tree: Path, rule: str, name: str, statement: str) -> None:
    path = tree / "services" / name
    path.parent.mkdir(exist_ok=True)
    before = path.read_text() if path.exists() else ""
    path.write_text(f"{before}\n{statement}\n")
    run = lint(tree)
    assert run.returncode == 1
    assert f"{rule} BROKEN" in run.stdout


def test_no_modules_import_one_another_in_a_circle() -> None:
    graph = grimp.build_graph("services", cache_dir=None)
    found = [
        (importer, imported)
        for importer in sorted(graph.modules)
        for imported in sorted(graph.find_modules_directly_imported_by(importer))
        if graph.chain_exists(imported, importer)
    ]
    assert found == []


@pytest.mark.parametrize("statement", ["import random", "from services.runtime import database"])
def test_the_domain_has_neither_chance_nor_database(tree: Path, statement: str) -> None:
    path = tree / "services/metering/domain.py"
    path.write_text(f"{path.read_text()}\n{statement}\n")
    run = lint(tree)
    assert run.returncode == 1
    assert "Domain rules do no I/O, read no clock and see no protobuf BROKEN" in run.stdout
