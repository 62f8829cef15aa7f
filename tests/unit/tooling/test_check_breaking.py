"""`buf breaking` refuses what it must, with its own exit code; any other code is a broken check."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tools import check_breaking
from tools.check_breaking import BREAKING, BROKEN_CHECK, COMPATIBLE, Baseline, CheckBroken

ROOT = Path(__file__).resolve().parents[3]
TYPES = "proto/payments/type/v1/type.proto"
LEDGER = "proto/payments/ledger/v1/ledger_service.proto"


def edit(root: Path, name: str, change: Callable[[str], str]) -> None:
    """Rewrite one file of a tree; a change that changes nothing is a mistake of the test."""
    path = root / name
    before = path.read_text()
    after = change(before)
    assert after != before
    path.write_text(after)


def remove_field(root: Path) -> None:
    edit(root, TYPES, lambda text: text.replace("  int64 minor_units = 2;\n", ""))


def renumber_field(root: Path) -> None:
    edit(root, TYPES, lambda text: text.replace("minor_units = 2;", "minor_units = 3;"))


def remove_rpc(root: Path) -> None:
    block = re.compile(r"^  rpc GetTrialBalance\(.*?^  }\n", re.DOTALL | re.MULTILINE)
    edit(root, LEDGER, lambda text: block.sub("", text))


def add_field(root: Path) -> None:
    edit(
        root,
        TYPES,
        lambda text: text.replace(
            "  int64 minor_units = 2;\n",
            "  int64 minor_units = 2;\n  // Remark.\n  string note = 3;\n",
        ),
    )


PLANTED = [remove_field, renumber_field, remove_rpc]
COMPLAINTS: dict[Callable[[Path], None], str] = {
    remove_field: 'Previously present field "2" with name "minor_units" on message "Money"',
    renumber_field: 'Previously present field "2" with name "minor_units" on message "Money"',
    remove_rpc: 'Previously present RPC "GetTrialBalance" on service "LedgerService"',
}


def git(root: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.com")
    subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True)


def commit_all(root: Path) -> None:
    git(root, "add", "-A")
    git(root, "commit", "-q", "--no-verify", "--no-gpg-sign", "-m", "step")


def copy_schemas(root: Path) -> None:
    shutil.copytree(ROOT / "proto", root / "proto")
    shutil.copy(ROOT / "buf.yaml", root)
    shutil.copy(ROOT / "pyproject.toml", root)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the schemas, outside any repository."""
    root = tmp_path / "tree"
    copy_schemas(root)
    return root


@pytest.fixture
def repository(tree: Path) -> Path:
    """The same as a repository with one commit."""
    git(tree, "init", "-q", "-b", "main")
    commit_all(tree)
    return tree


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> Baseline:
    """The schemas before any change."""
    folder = tmp_path_factory.mktemp("baseline")
    copy_schemas(folder / "tree")
    image = folder / "baseline.binpb"
    check_breaking.build_image(folder / "tree", image)
    return Baseline("baseline", image)


def run(root: Path) -> int:
    """The script as `make` runs it."""
    script = ROOT / "tools/check_breaking.py"
    command = [sys.executable, str(script), "--root", str(root)]
    return subprocess.run(command, check=False, capture_output=True).returncode


def test_unchanged_schemas_pass(tree: Path, baseline: Baseline) -> None:
    assert check_breaking.breaking(tree, baseline) == 0 == COMPATIBLE


def test_an_added_field_passes(tree: Path, baseline: Baseline) -> None:
    add_field(tree)
    assert check_breaking.breaking(tree, baseline) == COMPATIBLE


@pytest.mark.parametrize("plant", PLANTED)
def test_planted_change_is_refused_with_100(
    tree: Path,
    baseline: Baseline,
    plant: Callable[[Path], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    plant(tree)
    assert check_breaking.breaking(tree, baseline) == 100 == BREAKING
    assert COMPLAINTS[plant] in capsys.readouterr().err


@pytest.mark.parametrize("plant", PLANTED)
def test_planted_change_is_refused_before_and_after_its_commit(
    repository: Path, plant: Callable[[Path], None]
) -> None:
    plant(repository)
    assert run(repository) == BREAKING
    commit_all(repository)
    assert run(repository) == BREAKING


def test_a_branch_is_compared_with_where_it_left_main(repository: Path) -> None:
    git(repository, "checkout", "-q", "-b", "work")
    remove_field(repository)
    commit_all(repository)
    (repository / "README.md").write_text("A later commit hides nothing.")
    commit_all(repository)
    assert run(repository) == BREAKING


def test_the_release_is_compared_with_even_when_the_parent_agrees(repository: Path) -> None:
    description = repository / check_breaking.OPENAPI
    description.parent.mkdir(parents=True)
    description.write_text("{}")
    check_breaking.record(repository)
    remove_rpc(repository)
    commit_all(repository)
    (repository / "README.md").write_text("The parent has the broken schemas too.")
    commit_all(repository)
    assert run(repository) == BREAKING


def test_the_newest_release_counts(tmp_path: Path) -> None:
    folder = tmp_path / "tests/golden"
    folder.mkdir(parents=True)
    for version in ("0.2.0", "0.10.0", "0.9.1"):
        (folder / f"schema-v{version}.binpb").touch()
    found = check_breaking.release_image(tmp_path)
    assert found is not None and found.name == "schema-v0.10.0.binpb"


def test_nothing_to_compare_with_is_a_broken_check(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CheckBroken, match="neither a parent commit"):
        check_breaking.check(tree)
    assert "NOT compared with a parent" in capsys.readouterr().err


def test_schemas_that_do_not_compile_are_a_broken_check(repository: Path) -> None:
    edit(repository, TYPES, lambda text: text + "message {")
    assert run(repository) == BROKEN_CHECK


def test_a_missing_baseline_is_a_broken_check(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckBroken, match="exit"):
        check_breaking.breaking(tree, Baseline("nothing", tmp_path / "absent.binpb"))
