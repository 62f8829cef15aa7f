"""The page of the event catalogue: fresh, complete, and found out when it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.events.store import catalogue
from tools import event_page, pages

ROOT = Path(__file__).parents[3]


def test_the_page_is_fresh() -> None:
    assert pages.difference((ROOT / event_page.PAGE).read_text(), event_page.page()) == ""


def test_every_event_is_on_it() -> None:
    text = event_page.page()
    for subject in catalogue.entries():
        assert f"\n### `{subject}`\n" in text


def test_a_stale_page_fails_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(event_page, "ROOT", tmp_path)
    monkeypatch.setattr("sys.argv", ["event_page.py"])
    assert event_page.main() == 0
    monkeypatch.setattr("sys.argv", ["event_page.py", "--check"])
    assert event_page.main() == 0
    page = tmp_path / event_page.PAGE
    page.write_text(page.read_text().replace("order.created", "order.made"))
    assert event_page.main() == 1
    assert "order.made" in capsys.readouterr().err
    page.unlink()
    assert event_page.main() == 1
