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


@pytest.mark.parametrize("target", PROMISED)
def test_promised_targets_exist(target: str) -> None:
    assert target in phony_targets()


def test_ci_runs_what_a_developer_runs() -> None:
    script = ROOT / ".ci/run"
    commands = [line for line in script.read_text().splitlines() if line and line[0] != "#"]
    assert commands[-1] == "exec make test"
    assert os.access(script, os.X_OK)


def test_make_test_reaches_every_check_and_every_suite() -> None:
    prerequisites = dict(re.findall(r"^([a-z-]+): (.*?) ##", MAKEFILE, re.MULTILINE))
    reached = set(prerequisites["test"].split()) | set(prerequisites["lint"].split())
    checks = {name for name in phony_targets() if name.startswith("check-")}
    assert checks | {"suites"} <= reached
