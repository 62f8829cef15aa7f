"""The reference of commands and settings is what the commands and settings say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import cli_page, settings_page
from tools.settings_page import Setting

ROOT = Path(__file__).resolve().parents[3]


def test_every_command_and_every_exit_code_is_described() -> None:
    text = cli_page.page()
    assert (ROOT / cli_page.PAGE).read_text() == text
    assert (ROOT / cli_page.INDEX).read_text() == cli_page.index()
    for path in ("tollmesh up", "tollmesh webhooks listen", "tollmesh export entries"):
        assert f"### `{path}`" in text
    assert "| 6 | done in part" in text
    assert "| `exact_amount` | decimal |" in text


def test_every_setting_has_its_meaning_default_and_bounds() -> None:
    text = settings_page.page()
    assert (ROOT / settings_page.PAGE).read_text() == text
    assert settings_page.undescribed() == []
    for row in (
        "| `TOLLMESH_POOL_SIZE` | database connections of a process. |  | `16` | 2 to 90 |",
        "| `TOLLMESH_DEADLINE_CEILING_MS` |",
        "| `TOLLMESH_CONCURRENT_RPCS_MAX` |",
        "| `TOLLMESH_REST_LISTEN` |",
        "| `TOLLMESH_GATEWAY` |",
        "| `TOLLMESH_TRACEBACK` |",
        "| `--in-flight-max` |",
    ):
        assert row in text
    assert all(each.meaning for found in settings_page.sections().values() for each in found)


def test_a_setting_that_nothing_describes_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    left: tuple[Setting, ...] = tuple(
        each for each in settings_page.OTHERS if each.name != "TOLLMESH_TRACEBACK"
    )
    monkeypatch.setattr(settings_page, "OTHERS", left)
    monkeypatch.setattr("sys.argv", ["settings_page.py", "--check"])
    assert settings_page.undescribed() == ["TOLLMESH_TRACEBACK"]
    assert settings_page.main() == 1


@pytest.mark.parametrize("tool", [cli_page, settings_page])
def test_a_stale_page_fails(tool: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    page = tool.PAGE  # type: ignore[attr-defined]
    text = tool.page()  # type: ignore[attr-defined]
    monkeypatch.setattr(tool, "page", lambda: text)
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    if tool is settings_page:
        monkeypatch.setattr(tool, "undescribed", list)
    for arguments, code in ((["--check"], 1), ([], 0), (["--check"], 0)):
        monkeypatch.setattr("sys.argv", ["page.py", *arguments])
        assert tool.main() == code  # type: ignore[attr-defined]
    (tmp_path / page).write_text(text + "more\n")
    assert tool.main() == 1  # type: ignore[attr-defined]
