"""Taking a mesh down, and its secret, without a mesh."""

from __future__ import annotations

import asyncio
import json
import re
import stat
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest

from services.cli.errors import EXIT_REFUSED, EXIT_UNAVAILABLE
from services.cli.start_errors import cli_error
from services.local import gateway as facade
from services.local.errors import (
    GatewayNotStarted,
    GatewayUnfit,
    MeshSecretDamaged,
    SecretsKeysDamaged,
    StartRefused,
)
from services.local.mesh import LocalMesh, Options
from services.local.secrets import (
    mesh_secret,
    refuse_others,
    remember_together,
    secrets_keys,
)
from services.runtime.edge.server import PortInUse
from services.runtime.errors import DatabaseUnavailable
from services.runtime.postgres.roles import DatabaseTaken, DatabaseUrls
from services.runtime.secrets import new_key, parse_keys


class Gateway:
    """A facade that ends once the call that it waits for was answered by the mesh's event loop."""

    def __init__(self) -> None:
        self.answered = threading.Event()
        self.drained = False

    def stop(self) -> None:
        self.drained = self.answered.wait(5)


class Node:
    """A node that fails to stop."""

    async def stop(self) -> None:
        raise RuntimeError("stuck")


class Postgres:
    """Remembers that it was stopped."""

    def __init__(self, ended: str = "") -> None:
        self.stopped, self.ended = False, ended

    def stop(self) -> None:
        self.stopped = True

    def why_ended(self) -> str:
        return self.ended


def mesh(tmp_path: Path) -> Any:
    return LocalMesh(Options(tmp_path, 0, 0))


async def test_calls_through_the_facade_are_answered_while_it_drains(tmp_path: Path) -> None:
    local, gateway = mesh(tmp_path), Gateway()
    local._gateway = gateway
    asyncio.get_running_loop().call_later(0.05, gateway.answered.set)
    await local.stop()
    assert gateway.drained


async def test_a_node_that_fails_to_stop_leaves_no_postgres_behind(tmp_path: Path) -> None:
    local, postgres = mesh(tmp_path), Postgres()
    local._node, local._postgres = Node(), postgres
    with pytest.raises(RuntimeError, match="stuck"):
        await local.stop()
    assert postgres.stopped


def test_the_secret_is_made_once_and_closed_to_others(tmp_path: Path) -> None:
    path = tmp_path / "mesh.secret"
    first = mesh_secret(tmp_path)
    assert mesh_secret(tmp_path) == first
    assert len(first) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [item.name for item in tmp_path.iterdir()] == ["mesh.secret"]


@pytest.mark.parametrize("damaged", [b"", b"half", b"\xff" * 64])
def test_half_a_secret_is_refused_with_what_to_do(tmp_path: Path, damaged: bytes) -> None:
    path = tmp_path / "mesh.secret"
    path.write_bytes(damaged)
    with pytest.raises(MeshSecretDamaged, match="is damaged") as refused:
        mesh_secret(tmp_path)
    assert "delete it" in cli_error(refused.value).hints[0]


def test_the_keys_of_secrets_are_made_once_and_closed_to_others(tmp_path: Path) -> None:
    first = secrets_keys(tmp_path)
    assert secrets_keys(tmp_path) == first
    assert len(parse_keys(first)) == 1
    assert stat.S_IMODE((tmp_path / "secrets.keys").stat().st_mode) == 0o600


@pytest.mark.parametrize("damaged", [b"", b"x" * 44, b"\xff" * 44])
def test_damaged_keys_are_never_replaced(tmp_path: Path, damaged: bytes) -> None:
    path = tmp_path / "secrets.keys"
    path.write_bytes(damaged)
    with pytest.raises(SecretsKeysDamaged, match="is damaged") as refused:
        secrets_keys(tmp_path)
    told = cli_error(refused.value)
    assert told.exit_code == EXIT_REFUSED
    assert "backup" in told.hints[0]
    assert path.read_bytes() == damaged


def test_passwords_know_the_secrets_that_they_are_kept_with(tmp_path: Path) -> None:
    path = tmp_path / "passwords.json"
    stored = {"service": "a", "relay": "b"}
    path.write_text(json.dumps(stored))
    ours, first, second = "s" * 40, new_key(), new_key()
    refuse_others(tmp_path, ours, first)  # written before it was noted
    remember_together(tmp_path, ours, first)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    noted = path.read_text()
    assert json.loads(noted).items() > stored.items()
    assert ours not in noted and first not in noted
    remember_together(tmp_path, ours, first)
    assert path.read_text() == noted
    with pytest.raises(DatabaseTaken, match=r"mesh\.secret\)"):
        refuse_others(tmp_path, "t" * 40, first)
    with pytest.raises(DatabaseTaken, match=r"\(secrets\.keys\)"):
        refuse_others(tmp_path, ours, second)
    with pytest.raises(DatabaseTaken, match=r"mesh\.secret, secrets\.keys"):
        refuse_others(tmp_path, "t" * 40, second)
    # Keys that are exchanged one by one are of one mesh, and keys that are kept elsewhere are looked at elsewhere.
    refuse_others(tmp_path, ours, f"{second}\n{first}")
    remember_together(tmp_path, ours, f"{second}\n{first}")
    refuse_others(tmp_path, ours, second)
    refuse_others(tmp_path, ours, None)
    remember_together(tmp_path, ours, None)
    with pytest.raises(DatabaseTaken):
        refuse_others(tmp_path, ours, new_key())


def test_the_environment_stands_above_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOLLMESH_SECRETS_KEYS", "set")
    assert mesh(tmp_path)._kept_and_listed() == {}
    assert list(tmp_path.iterdir()) == []
    monkeypatch.delenv("TOLLMESH_SECRETS_KEYS")
    listed = LocalMesh(Options(tmp_path, 0, 0, webhook_allow="127.0.0.1"))._kept_and_listed()
    assert listed["webhook_allow"] == "127.0.0.1"
    assert parse_keys(listed["secrets_keys"].get_secret_value())


@pytest.mark.parametrize("ended", ["", "could not write: No space left on device"])
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (psycopg.OperationalError("Connection refused"), "Connection refused"),
        (DatabaseUnavailable("it gave up"), "it gave up"),
        (TimeoutError(), "the database did not answer in time"),
        (PermissionError("not yours"), "the operating system refused: not yours"),
        (
            FileNotFoundError(2, "gone", "/etc/ssl/ca.pem"),
            "the operating system refused: [Errno 2]",
        ),
        (
            ConnectionRefusedError(111, "refused"),
            "the operating system refused: [Errno 111] refused",
        ),
    ],
)
async def test_a_start_that_fails_tells_why_postgres_ended_when_it_did(
    tmp_path: Path, error: Exception, said: str, ended: str
) -> None:
    local, postgres = mesh(tmp_path), Postgres(ended)

    async def prepare() -> None:
        local._postgres = postgres
        raise error

    local._prepare_database = prepare
    with pytest.raises(StartRefused, match=re.escape(ended or said)) as refused:
        await local.start()
    assert cli_error(refused.value).exit_code == EXIT_UNAVAILABLE
    assert postgres.stopped


async def test_the_data_directory_is_blamed_for_its_own_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for data_dir in (tmp_path / "data", Path("data")):
        local = mesh(data_dir)

        async def prepare(file: Path = data_dir / "mesh.secret") -> None:
            raise PermissionError(13, "Permission denied", str(file))

        local._prepare_database = prepare
        with pytest.raises(StartRefused, match=r"^cannot use the data directory: .*mesh.secret"):
            await local.start()


@pytest.mark.parametrize("chosen", [True, False])
@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("missing", "No such file or directory"),
        ("not executable", "Permission denied"),
        ("directory", "Permission denied"),
        ("no program", "Exec format error"),
    ],
)
async def test_a_facade_that_cannot_be_run_is_named_with_its_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, why: str, chosen: bool
) -> None:
    program = tmp_path / "gw"
    if kind == "directory":
        program.mkdir()
    elif kind != "missing":
        program.write_bytes(b"\0")
        program.chmod(0o755 if kind == "no program" else 0o644)
    if chosen:
        monkeypatch.setenv("TOLLMESH_GATEWAY", str(program))
    else:
        monkeypatch.delenv("TOLLMESH_GATEWAY", raising=False)
        monkeypatch.setattr(facade, "find", lambda: program)
    local = mesh(tmp_path / "data")

    async def prepare() -> DatabaseUrls:
        return DatabaseUrls("admin", "service", "relay")

    async def start_node(_: DatabaseUrls) -> None: ...

    local._prepare_database, local._start_node = prepare, start_node
    with pytest.raises(GatewayUnfit) as unfit:
        await local.start()
    told = cli_error(unfit.value)
    assert str(program) in str(told)
    assert str(told).endswith(why)
    assert ("TOLLMESH_GATEWAY" in str(told)) == chosen
    assert "TOLLMESH_GATEWAY" in told.hints[0]
    assert told.exit_code == EXIT_UNAVAILABLE
    with pytest.raises(GatewayUnfit):
        facade.Gateway(program, "127.0.0.1:0", "127.0.0.1:1")


async def test_a_build_that_may_not_be_written_leaves_the_mesh_without_a_facade(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.delenv("TOLLMESH_GATEWAY", raising=False)
    monkeypatch.setattr(facade, "PACKAGED", tmp_path / "none")
    monkeypatch.setattr(facade, "BINARY", tmp_path / "file" / "gateway")
    monkeypatch.setattr(facade, "_go", lambda: "/none/go")
    assert await facade.find_or_build() is None
    assert "could not be built" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("cause", "hint"),
    [(PortInUse("127.0.0.1:1"), "--grpc-port"), (DatabaseTaken("another's"), "--take-over")],
)
async def test_what_refused_a_start_decides_what_is_advised(
    tmp_path: Path, cause: Exception, hint: str
) -> None:
    local = mesh(tmp_path)

    async def prepare() -> None:
        raise cause

    local._prepare_database = prepare
    with pytest.raises(StartRefused) as refused:
        await local.start()
    assert hint in " ".join(cli_error(refused.value).hints)


def test_a_facade_that_does_not_start_is_a_port_that_cannot_be_had() -> None:
    told = cli_error(GatewayNotStarted("127.0.0.1:1"))
    assert told.exit_code == EXIT_UNAVAILABLE
    assert "--rest-port" in told.hints[0]
