"""Profiles: which mesh a command talks to, and that a key stays where only its owner can read it."""

from __future__ import annotations

import json
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keyring
import pytest
from keyring.backend import KeyringBackend
from payments.access.v1 import access_service_pb2, access_service_pb2_grpc

from services.cli import client as clients
from services.cli import profiles
from services.cli.client import Client, Session
from services.cli.errors import EXIT_DENIED, EXIT_UNAVAILABLE, EXIT_USAGE, CliError
from services.cli.profiles import KeyPlace, Profile


class Memory(KeyringBackend):
    """A keyring of a system, as far as we use one."""

    priority = 5

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], str] = {}
        self.locked = False

    def _open(self) -> None:
        if self.locked:
            raise keyring.errors.KeyringLocked("it is locked")

    def get_password(self, service: str, username: str) -> str | None:
        self._open()
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self._open()
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        self._open()
        if self.kept.pop((service, username), None) is None:
            raise keyring.errors.PasswordDeleteError("none")


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user without any profile, in a directory without a mesh."""
    for name in ("ADDRESS", "API_KEY", "REST_URL", "DATA_DIR", "PROFILE"):
        monkeypatch.delenv(f"TOLLMESH_{name}", raising=False)
    folder = tmp_path / "config"
    monkeypatch.setenv("TOLLMESH_CONFIG_DIR", str(folder))
    monkeypatch.chdir(tmp_path)
    profiles.choose("")
    yield folder
    profiles.choose("")


@pytest.fixture
def ring(monkeypatch: pytest.MonkeyPatch) -> Memory:
    """A keyring that can be used."""
    made = Memory()
    monkeypatch.setattr(keyring.core, "_keyring_backend", made)
    return made


def added(name: str, grpc: str, key: str = "", place: KeyPlace | None = KeyPlace.FILE) -> Profile:
    return profiles.add(Profile(name, grpc, f"http://{name}"), key, place, overwrite=False)


def test_the_first_that_names_a_mesh_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def found() -> tuple[str, str, str, str]:
        session, why = Session.located()
        return session.grpc, session.api_key, session.rest, why

    assert found() == (clients.DEFAULT_ADDRESS, "", "", "default")
    added("staging", "staging:1", "key-s")
    added("prod", "prod:2", "key-p")
    assert found()[3] == "default"
    profiles.use("staging")
    assert found() == ("staging:1", "key-s", "http://staging", "profile staging")
    here = tmp_path / ".tollmesh"
    here.mkdir()
    clients.save_session(here, Session("here:3", "key-h", "http://here"))
    assert found() == ("here:3", "key-h", "http://here", "the mesh of .tollmesh")
    profiles.choose("prod")
    assert found() == ("prod:2", "key-p", "http://prod", "profile prod")
    monkeypatch.setenv("TOLLMESH_API_KEY", "key-e")
    assert found() == ("prod:2", "key-e", "http://prod", "profile prod")
    # A key is of its mesh: to another address neither the profile's key goes nor is its facade asked.
    monkeypatch.delenv("TOLLMESH_API_KEY")
    monkeypatch.setenv("TOLLMESH_ADDRESS", "other:4")
    assert found() == ("other:4", "", "", "TOLLMESH_ADDRESS")
    monkeypatch.setenv("TOLLMESH_REST_URL", "http://other")
    assert found()[2] == "http://other"


def test_only_the_owner_can_read_the_file(config: Path) -> None:
    added("a", "a:1", "secret")
    file = config / profiles.FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(config.stat().st_mode) == 0o700
    assert profiles.read().get("a").api_key() == "secret"
    assert "secret" not in repr(profiles.read())


def test_keys_go_to_the_keyring_if_there_is_one(config: Path, ring: Memory) -> None:
    made = added("a", "a:1", "secret", None)
    assert made.key_place is KeyPlace.KEYRING
    assert "secret" not in (config / profiles.FILE).read_text()
    assert profiles.read().get("a").api_key() == "secret"
    ring.locked = True
    with pytest.raises(
        CliError, match="does not give the key of profile 'a': it is locked"
    ) as told:
        profiles.read().get("a").api_key()
    assert told.value.exit_code == EXIT_DENIED
    ring.locked = False
    # From the keyring into the file: nothing of it stays behind.
    profiles.add(Profile("a", "a:1"), "other", KeyPlace.FILE, overwrite=True)
    assert ring.kept == {}
    profiles.add(Profile("a", "a:1"), "third", None, overwrite=True)
    profiles.remove("a")
    assert ring.kept == {}
    assert profiles.read().by_name == {}


def test_without_a_keyring_the_file_keeps_them(monkeypatch: pytest.MonkeyPatch) -> None:
    from keyring.backends.fail import Keyring

    monkeypatch.setattr(keyring.core, "_keyring_backend", Keyring())  # type: ignore[no-untyped-call]
    assert added("a", "a:1", "secret", None).key_place is KeyPlace.FILE
    with pytest.raises(CliError, match="has no keyring") as told:
        added("b", "b:1", "secret", KeyPlace.KEYRING)
    assert "--keep-in file" in told.value.hints[0]
    assert "b" not in profiles.read().by_name


def test_names_are_completed(config: Path) -> None:
    assert profiles.complete("") == []
    added("staging", "a:1")
    added("stable", "a:1")
    added("prod", "a:1")
    assert profiles.complete("sta") == ["stable", "staging"]
    (config / profiles.FILE).write_text("{")
    assert profiles.complete("") == []


def test_two_that_add_at_once_lose_nothing() -> None:
    def add_some(who: str) -> None:
        for number in range(10):
            added(f"{who}{number}", "a:1", "k")

    threads = [threading.Thread(target=add_some, args=(who,)) for who in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(profiles.read().by_name) == 40


@pytest.mark.parametrize("text", ["{", "[]", '{"profiles": {"a": {}}}', '{"profiles": 1}'])
def test_a_damaged_file_is_named(config: Path, text: str) -> None:
    config.mkdir()
    (config / profiles.FILE).write_text(text)
    with pytest.raises(CliError, match=r"profiles\.json is damaged") as told:
        Session.find()
    assert told.value.exit_code == EXIT_USAGE


def test_what_is_asked_for_wrongly_is_said(config: Path) -> None:
    added("staging", "a:1")
    profiles.choose("stagin")
    with pytest.raises(CliError, match="there is no profile 'stagin'") as told:
        Session.find()
    assert told.value.hints[0] == "there are: staging"
    with pytest.raises(CliError, match="already"):
        added("staging", "b:1")
    with pytest.raises(CliError, match="is not a name"):
        added("a b", "b:1")
    with pytest.raises(CliError, match="no profile 'x'"):
        profiles.use("x")
    before = (config / profiles.FILE).read_text()
    assert json.loads(before)["current"] == ""


def test_a_profile_whose_mesh_is_gone_says_what_to_do() -> None:
    with socket.socket() as gone:
        gone.bind(("127.0.0.1", 0))
        port = gone.getsockname()[1]
    added("staging", f"127.0.0.1:{port}", "key")
    profiles.choose("staging")
    with Client(Session.find()) as client, pytest.raises(CliError, match="no mesh answers") as told:
        stub: Any = client.stub(access_service_pb2_grpc.AccessServiceStub)
        client.call(stub.ListApiKeys, access_service_pb2.ListApiKeysRequest(), timeout=20)
    assert told.value.exit_code == EXIT_UNAVAILABLE
    (hint,) = told.value.hints
    assert "profile 'staging'" in hint
    assert "tollmesh profiles remove staging" in hint
