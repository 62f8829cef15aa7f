"""The Makefile is the door: it lists what it can do, and CI uses the same door."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
MAKEFILE = (ROOT / "Makefile").read_text()
PROMISED = ("demo", "up", "test", "lint", "generate", "bench", "chaos", "gateway")


def phony_targets() -> list[str]:
    block = re.search(r"^\.PHONY: ((?:.*\\\n)*.*)$", MAKEFILE, re.MULTILINE)
    assert block
    return block.group(1).replace("\\\n", " ").split()


def test_make_alone_lists_every_target_with_its_meaning() -> None:
    # Without what an outer make left in the environment: its flags would change ours.
    environment = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    run = subprocess.run(
        ["make"], cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    )
    listed = dict(re.findall(r"^  make (\S+)\s+(\S.*)$", run.stdout, re.MULTILINE))
    assert set(listed) == set(phony_targets())


def commands_of(target: str) -> set[str]:
    """Return what make would run for a target, by its own word."""
    environment = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    command = ["make", "--dry-run", "--silent", target]
    run = subprocess.run(
        command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    )
    return set(run.stdout.splitlines())


@pytest.mark.parametrize("target", PROMISED)
def test_promised_targets_exist(target: str) -> None:
    assert target in phony_targets()


def test_ci_runs_what_a_developer_runs() -> None:
    script = ROOT / ".ci/run"
    commands = [line for line in script.read_text().splitlines() if line and line[0] != "#"]
    assert commands[-1] == "exec make test"
    assert os.access(script, os.X_OK)


def test_make_test_reaches_every_check_and_every_suite() -> None:
    checks = [name for name in phony_targets() if name.startswith("check-")]
    assert checks
    test, lint = commands_of("test"), commands_of("lint")
    for name in (*checks, "suites"):
        commands = commands_of(name)
        assert commands, f"{name} does nothing"
        assert commands <= test, f"make test leaves out {name}"
    for name in checks:
        assert name == "check-gateway" or commands_of(name) <= lint, f"make lint leaves out {name}"
