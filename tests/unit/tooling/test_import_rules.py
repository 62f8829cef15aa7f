"""import-linter refuses what the rules of pyproject.toml forbid: seen on planted imports."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[3]
# One worker runs all of them, with one tree.
pytestmark = pytest.mark.xdist_group("import-rules")

SIDE_BY_SIDE = "Services know the runtime, and one another only by their schemas"
KNOWN_BY_MANIFEST = "The command line and its mesh know of a service only the manifest"
ROOMS = "Rooms of a service depend downwards"
WORDS = "Use cases speak the words of the domain"
# Rule, file and import that breaks it.
PLANTS = [
    (SIDE_BY_SIDE, "pricing/app/pricing.py", "from services.ledger import store as planted"),
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
    (ROOMS, "metering/store/usage.py", "from services.metering.app import late as planted"),
    (
        ROOMS,
        "orchestration/messages/payments.py",
        "from services.orchestration import app as planted",
    ),
    (ROOMS, "ledger/helpers.py", ""),
    (WORDS, "ledger/app/ledger.py", "from payments.ledger.v1 import ledger_pb2 as planted"),
    (WORDS, "events/app/feed.py", "from services.events.messages import feed as planted"),
    (
        "Domain rules do no I/O, read no clock and see no protobuf",
        "metering/domain/usage.py",
        "import sqlalchemy as planted",
    ),
    (KNOWN_BY_MANIFEST, "cli/output.py", "from services.metering import app as planted"),
    (KNOWN_BY_MANIFEST, "local/mesh.py", "from services.metering import app as planted"),
    (KNOWN_BY_MANIFEST, "cli/output.py", "from services.metering import bootstrap as planted"),
]


# Lints the tree that it stands in each time that it reads a line: imports and most of the graph are there already.
LINTER = """
import contextlib, io, json, sys
from importlinter import cli

for _ in sys.stdin:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = cli.lint_imports(cache_dir="cache")
    print(json.dumps([code, out.getvalue()]), flush=True)
"""


class Tree:
    """A copy of the code that may be spoilt, and a linter that stands in it."""

    def __init__(self, folder: Path, linter: subprocess.Popen[str]) -> None:
        self._services = folder / "services"
        self._linter = linter

    def lint(self) -> tuple[int, str]:
        """Return the linter's exit code and what it printed."""
        assert self._linter.stdin is not None
        assert self._linter.stdout is not None
        self._linter.stdin.write("\n")
        self._linter.stdin.flush()
        code, printed = json.loads(self._linter.stdout.readline())
        return code, printed

    def lint_with(self, name: str, statement: str) -> tuple[int, str]:
        """Do so with a statement at the end of a file, which is as before afterwards."""
        path = self._services / name
        is_new, is_new_folder = not path.exists(), not path.parent.exists()
        before = "" if is_new else path.read_text()
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{before}\n{statement}\n")
        try:
            return self.lint()
        finally:
            if is_new:
                path.unlink()
            else:
                path.write_text(before)
            if is_new_folder:
                path.parent.rmdir()


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    folder = tmp_path_factory.mktemp("tree")
    ignore = shutil.ignore_patterns("__pycache__", "gateway", "data")
    shutil.copytree(ROOT / "services", folder / "services", ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", folder)
    with subprocess.Popen(
        [sys.executable, "-c", LINTER],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as linter:
        yield Tree(folder, linter)


def test_our_imports_keep_every_rule(tree: Tree) -> None:
    code, printed = tree.lint()
    assert code == 0, printed
    rules = {rule for rule, _, _ in PLANTS}
    assert f"Contracts: {len(rules)} kept, 0 broken." in printed


@pytest.mark.parametrize(("rule", "name", "statement"), PLANTS)
def test_a_planted_import_breaks_its_rule(tree: Tree, rule: str, name: str, statement: str) -> None:
    code, printed = tree.lint_with(name, statement)
    assert code == 1
    assert f"{rule} BROKEN" in printed


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
def test_the_domain_has_neither_chance_nor_database(tree: Tree, statement: str) -> None:
    code, printed = tree.lint_with("metering/domain/usage.py", statement)
    assert code == 1
    assert "Domain rules do no I/O, read no clock and see no protobuf BROKEN" in printed
