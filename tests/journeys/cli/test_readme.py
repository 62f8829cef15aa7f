"""What the README tells a newcomer to type is there."""

from __future__ import annotations

import re
import subprocess
from typing import Any

from typer import Context
from typer.core import TyperGroup
from typer.main import get_command

from services.cli.app import app
from tests.support.billing.demo_job import REPOSITORY

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
LINES = [line.split("#")[0].strip() for block in BLOCKS for line in block.splitlines()]


def test_the_two_commands_stand_first() -> None:
    assert [line for line in LINES if line][:2] == ["make demo", "make test"]


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"(?:^|`)make ([a-z][a-z-]*)", README, re.MULTILINE))
    assert {"demo", "test", "up"} <= targets
    for target in sorted(targets):
        dry = subprocess.run(
            ["make", "--dry-run", "--question", target],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
        )
        assert dry.returncode in {0, 1}, dry.stderr  # 2: make knows no such target


def test_every_command_of_tollmesh_exists() -> None:
    told = [line.split()[1:] for line in LINES if line.startswith("tollmesh ")]
    assert len(told) >= 4
    for words in told:
        command: Any = get_command(app)
        for word in words:
            if not isinstance(command, TyperGroup) or word.startswith("-"):
                break
            found = command.get_command(Context(command), word)
            assert found is not None, f"tollmesh {' '.join(words)}"
            command = found
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known


def test_every_file_it_points_to_exists() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if "://" not in target:
            assert (REPOSITORY / target).exists(), target
