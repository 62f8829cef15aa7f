"""The guide to events shows what the commands print."""

from __future__ import annotations

from pathlib import Path

from tests.support.billing.demo_job import REPOSITORY
from tests.support.http import guide

PAGE = REPOSITORY / "docs/guides/events.md"
ARGUMENTS = ("--webhook-allow", "127.0.0.1/32")


def test_every_command_prints_what_the_page_shows(tmp_path: Path) -> None:
    with guide.playing(tmp_path, *ARGUMENTS) as shell:
        found = guide.differences(PAGE.read_text(encoding="utf-8"), shell)
    assert not found, (
        "\n".join(found)
        + f"\nwrite it anew: python -m tests.support.http.guide {PAGE} -- {' '.join(ARGUMENTS)}"
    )
