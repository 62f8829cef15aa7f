"""Every guide shows what its commands print."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.billing.demo_job import REPOSITORY
from tests.support.http import guide
from tests.support.http.guide import Stage

PAGES = sorted((REPOSITORY / "docs/guides").glob("*.md"))

# One worker plays them all, on one mesh.
pytestmark = pytest.mark.xdist_group("guides")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with guide.stage(tmp_path_factory.mktemp("guides")) as playing:
        yield playing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_prints_what_the_page_shows(page: Path, stage: Stage) -> None:
    with stage.shell(page) as shell:
        found = guide.differences(page.read_text(encoding="utf-8"), shell)
    assert not found, (
        "\n".join(found)
        + f"\nwrite it anew: python -m tests.support.http.guide {page.relative_to(REPOSITORY)}"
    )
