"""A first bill, as the README and the quickstart have it typed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.http import guide
from tests.support.http.guide import Shell
from tests.support.processes.forked import REPOSITORY

# One mesh for all, and the last test goes on where the one before it ended.
pytestmark = pytest.mark.xdist_group("quickstart")

PAGE = REPOSITORY / "examples/quickstart/README.md"
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    with guide.playing(tmp_path_factory.mktemp("quickstart")) as shell:
        yield shell


def test_every_command_of_the_quickstart_prints_what_the_page_shows(shell: Shell) -> None:
    found = guide.differences(PAGE.read_text(encoding="utf-8"), shell)
    assert not found, (
        "\n".join(found) + f"\nwrite it anew: python -m tests.support.http.guide {PAGE}"
    )


def test_the_readme_bills_what_is_typed(shell: Shell, tmp_path: Path) -> None:
    """In ten lines, by a tenant of its own."""
    (block,) = (
        block
        for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
        if "quickstart" in block
    )
    up, *lines = [line.partition("  #")[0].strip() for line in block.splitlines()]
    assert up == "make up"
    assert len(lines) <= 10
    (tmp_path / ".venv").symlink_to(REPOSITORY / ".venv")
    shell.run(f"cd {tmp_path} && shopt -s expand_aliases")
    shell.run(
        "export TOLLMESH_API_KEY=$(tollmesh keys create r --scope '*' --tenant readme | head -1)"
    )
    printed = ""
    for line in lines:
        printed += shell.run(line)
        assert shell.run("echo $?") == "0\n", f"{line}\n{printed}"
    assert "The steps add up to 32 USD" in printed
    assert "acme pays 35.30 USD: succeeded" in printed
    entries = (tmp_path / "entries.csv").read_text(encoding="utf-8").splitlines()
    assert len(entries) > 4, "two lines of the charge, each with two entries"


def test_what_is_typed_again_bills_and_pays_nothing_more(shell: Shell) -> None:
    """It stands on the test before it."""
    charged = shell.run("tollmesh charge acme --period $(date -u +%Y-%m) --allow-open --quiet")
    assert charged == shell.run("echo $CHARGE")
    paid = shell.run("tollmesh pay --charge $CHARGE --merchant quickstart")
    assert "nothing more was charged" in paid
