"""The file that keeps the passwords of a database's roles."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from services.runtime.postgres.roles import Passwords, PasswordsDamaged


def test_passwords_are_made_once_and_closed_to_others(tmp_path: Path) -> None:
    path = tmp_path / "new" / "passwords.json"
    first = Passwords.from_file(path)
    assert Passwords.from_file(path) == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"garbage",
        b"\xff\xfe",
        b'{"service": "a"}',
        b'{"service": "a", "relay": ""}',
        b'{"service": "a", "relay": 1}',
        b'{"service": "a", "relay": "a\\u0000b"}',
        b'{"service": "a", "relay": "\\ud800"}',
        b"[" * 10_000,
    ],
)
def test_a_damaged_file_is_refused_with_what_to_do_and_left_as_it_is(
    tmp_path: Path, damaged: bytes
) -> None:
    path = tmp_path / "passwords.json"
    path.write_bytes(damaged)
    with pytest.raises(PasswordsDamaged) as refused:
        Passwords.from_file(path)
    assert f"{path} is damaged" in str(refused.value)
    assert "backup" in str(refused.value)
    assert "--take-over" in str(refused.value)
    assert path.read_bytes() == damaged
    assert [item.name for item in tmp_path.iterdir()] == ["passwords.json"]


def test_what_is_no_file_is_refused_too(tmp_path: Path) -> None:
    path = tmp_path / "passwords.json"
    path.mkdir()
    with pytest.raises(
        PasswordsDamaged, match=r"passwords\.json cannot be read \(Is a directory\)"
    ):
        Passwords.from_file(path)
