"""`tollmesh up`: on a Postgres of its own and on an existing one, killed, asked to end, and in another's way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from payments.events.v1 import events_service_pb2, events_service_pb2_grpc
from payments.type.v1 import type_pb2
from psycopg.conninfo import conninfo_to_dict

from services.cli.errors import EXIT_UNAVAILABLE, EXIT_USAGE
from services.local.postgres.server import EmbeddedPostgres
from services.runtime.secrets import new_key
from tests.support.events.outside import payload_of
from tests.support.jetstream import nats
from tests.support.mesh.process import MeshProcess, start
from tests.support.processes.alive import runs
from tests.support.processes.forked import program

REPOSITORY = Path(__file__).parents[3]
ENDS_WITHIN_S = 15.0
ARRIVES_WITHIN_S = 30.0
ADMIN, PASSWORD, DATABASE = "platform", "a plain password", "billing"


def descendants(pid: int) -> set[int]:
    """Every process below one."""
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return set()
    children = {int(child) for child in listed}
    return children.union(*(descendants(child) for child in children))


def await_gone(pids: set[int]) -> None:
    give_up_at = time.monotonic() + ENDS_WITHIN_S
    while left := {pid for pid in pids if runs(pid)}:
        assert time.monotonic() < give_up_at, f"still there: {left}"
        time.sleep(0.05)


def up(data_dir: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a mesh that is expected not to start."""
    plain = {key: text for key, text in os.environ.items() if not key.startswith("TOLLMESH_")}
    ports = ("--grpc-port", "0", "--no-rest")
    command = [str(program("services.cli")), "up", "--data-dir", str(data_dir), *ports]
    return subprocess.run(
        [*command, *arguments],
        cwd=REPOSITORY,
        env=plain | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def existing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a database whose login owns it and may create roles, and is no superuser."""
    with EmbeddedPostgres(tmp_path_factory.mktemp("existing") / "data") as server:
        with psycopg.connect(server.admin_url(), autocommit=True) as connection:
            connection.execute(f"CREATE ROLE {ADMIN} LOGIN CREATEROLE PASSWORD '{PASSWORD}'")
            connection.execute(f"CREATE DATABASE {DATABASE} OWNER {ADMIN}")
        host = conninfo_to_dict(server.admin_url())["host"]
        yield f"postgresql://{ADMIN}:{PASSWORD.replace(' ', '%20')}@/{DATABASE}?host={host}"


def _no_sockets(folder: str, names: list[str]) -> set[str]:
    return {name for name in names if Path(folder, name).is_socket()}


def _only_secrets(_: object, names: list[str]) -> set[str]:
    return set(names) - {"passwords.json", "mesh.secret", "secrets.keys"}


def test_an_existing_postgres_is_used_by_a_plain_login(existing: str, tmp_path: Path) -> None:
    with start(tmp_path / "data", arguments=("--database-url", existing)) as mesh:
        given = conninfo_to_dict(mesh.ready["database_url"])
        assert str(given["user"]).endswith("_service")
        assert given["dbname"] == DATABASE
        with psycopg.connect(mesh.ready["database_url"]) as service:
            rights = service.execute(
                "SELECT rolsuper, rolbypassrls, rolcreaterole FROM pg_roles WHERE rolname = user"
            ).fetchone()
        assert rights == (False, False, False)
        assert not (tmp_path / "data" / "cluster").exists()
        refused = up(tmp_path / "data", "--database-url", existing)
        assert refused.returncode == EXIT_UNAVAILABLE
        assert f"in use by process {mesh.process.pid}" in refused.stderr
        # From another directory it would have other secrets.
        taken = up(tmp_path / "other", "--database-url", existing)
        assert taken.returncode == EXIT_UNAVAILABLE
        assert "belongs to a mesh with other secrets" in taken.stderr
        assert "--data-dir" in taken.stderr
        assert "--take-over" in taken.stderr
        assert not list((tmp_path / "other").glob("*.json")), "what was made for nothing is gone"
        shutil.copy(tmp_path / "data" / "passwords.json", tmp_path / "other")
        assert up(tmp_path / "other", "--database-url", existing).returncode == EXIT_UNAVAILABLE
        # So it would with the passwords alone.
        (tmp_path / "part").mkdir(mode=0o700)
        shutil.copy(tmp_path / "data" / "passwords.json", tmp_path / "part")
        part = up(tmp_path / "part", "--database-url", existing)
        assert part.returncode == EXIT_UNAVAILABLE
        assert "not its secret (mesh.secret, secrets.keys)" in part.stderr
        shutil.copy(tmp_path / "data" / "mesh.secret", tmp_path / "part")
        part = up(tmp_path / "part", "--database-url", existing)
        assert part.returncode == EXIT_UNAVAILABLE
        assert "not its secret (secrets.keys)" in part.stderr
        assert not (tmp_path / "part" / "secrets.keys").exists()
        # And with the passwords beside secrets that are whole, but of another mesh.
        for other in ("mesh.secret", "secrets.keys"):
            shutil.rmtree(tmp_path / "part")
            shutil.copytree(tmp_path / "data", tmp_path / "part", ignore=_only_secrets)
            (tmp_path / "part" / other).write_text(new_key() + "\n")
            part = up(tmp_path / "part", "--database-url", existing)
            assert part.returncode == EXIT_UNAVAILABLE
            assert f"the secret of another ({other})" in part.stderr
        psycopg.connect(mesh.ready["database_url"]).close()
        # A whole copy has every secret, and the key of the run that it must not end.
        shutil.copytree(tmp_path / "data", tmp_path / "copy", ignore=_no_sockets)
        for arguments in ((), ("--take-over",)):
            copy = up(tmp_path / "copy", "--database-url", existing, *arguments)
            assert copy.returncode == EXIT_UNAVAILABLE
            assert f"(tollmesh up, process {mesh.process.pid} of " in copy.stderr
            assert "stop it first" in copy.stderr
        fresh = up(tmp_path / "fresh", "--database-url", existing, "--take-over")
        assert (fresh.returncode, "stop it first" in fresh.stderr) == (EXIT_UNAVAILABLE, True)
        assert not list((tmp_path / "fresh").glob("*.json")), "what was made for nothing is gone"
        with mesh.client() as client:  # its key still opens it
            stub = client.stub(events_service_pb2_grpc.EventServiceStub)
            client.call(stub.ListEvents, events_service_pb2.ListEventsRequest())
        mesh.kill()
    with start(tmp_path / "data", arguments=("--database-url", existing)) as again:
        assert again.ready["database_url"] == mesh.ready["database_url"]
        assert again.stop() == 0


def test_the_administrators_url_may_come_from_the_environment(
    existing: str, tmp_path: Path
) -> None:
    """It holds a password, which does not belong among the arguments that everyone may list."""
    wrong = existing.replace(DATABASE, "none")
    done = up(tmp_path / "data", TOLLMESH_OWNER_URL=wrong)
    assert done.returncode == EXIT_UNAVAILABLE
    assert "none" in done.stderr
    assert PASSWORD not in done.stderr


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("nonsense", "cannot connect"),
        ("postgresql://u:hidden@127.0.0.1:1/x", "cannot connect to database 127.0.0.1:1/x"),
        ("mysql://127.0.0.1/x", "cannot connect"),
    ],
)
def test_a_database_that_is_not_there_is_named_without_its_password(
    tmp_path: Path, url: str, told: str
) -> None:
    done = up(tmp_path / "data", "--database-url", url)
    assert done.returncode == EXIT_UNAVAILABLE
    assert told in done.stderr
    assert "hidden" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_login_that_may_not_prepare_is_told_what_it_lacks(existing: str, tmp_path: Path) -> None:
    poor = "clerk"
    with psycopg.connect(existing, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {poor} LOGIN PASSWORD '{PASSWORD}'")
        connection.execute(f"GRANT CONNECT ON DATABASE {DATABASE} TO {poor}")
    done = up(tmp_path / "data", "--database-url", existing.replace(ADMIN, poor), "--take-over")
    assert done.returncode == EXIT_UNAVAILABLE
    assert "It must own the database and have CREATEROLE" in done.stderr


def test_a_data_directory_in_use_is_refused_and_its_session_kept(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with start(data_dir) as mesh:
        session = json.loads((data_dir / "session.json").read_text())
        refused = up(data_dir)
        assert refused.returncode == EXIT_UNAVAILABLE
        assert f"in use by process {mesh.process.pid}" in refused.stderr
        assert json.loads((data_dir / "session.json").read_text()) == session
        assert mesh.stop() == 0
    assert not (data_dir / "session.json").exists()


def test_asked_to_end_it_leaves_nothing_behind_and_killed_neither(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with start(data_dir, rest=True) as mesh:
        below = descendants(mesh.process.pid)
        assert len(below) > 2, "Postgres with its workers, and the facade"
        asked_at = time.monotonic()
        assert mesh.stop() == 0
        assert time.monotonic() - asked_at < ENDS_WITHIN_S
        await_gone(below)
    with start(data_dir, rest=True) as mesh:
        below = descendants(mesh.process.pid)
        mesh.kill()
        await_gone(below)
    with start(data_dir) as mesh:
        mesh.process.send_signal(signal.SIGINT)  # Ctrl-C
        assert mesh.await_death(ENDS_WITHIN_S) == 0


@pytest.mark.parametrize(
    ("make", "told"),
    [
        ("cluster", "was written by Postgres 17"),
        ("foreign", "is itself a Postgres cluster"),
        ("file", "is not a directory"),
        ("open", "is world-writable"),
    ],
)
def test_a_data_directory_that_is_not_ours_is_left_alone(
    tmp_path: Path, make: str, told: str
) -> None:
    data_dir = tmp_path / "data"
    if make == "file":
        data_dir.write_text("mine")
    else:
        cluster = data_dir / "cluster" if make == "cluster" else data_dir
        cluster.mkdir(parents=True)
        if make == "open":
            data_dir.chmod(0o777)
        else:
            (cluster / "PG_VERSION").write_text("17\n")
    done = up(data_dir)
    assert done.returncode == EXIT_UNAVAILABLE
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_settings_out_of_their_bounds_are_named(tmp_path: Path) -> None:
    for name, text in (("POOL_SIZE", "many"), ("LOG_LEVEL", "loud")):
        done = up(tmp_path / "data", **{f"TOLLMESH_{name}": text})
        assert done.returncode == EXIT_USAGE
        assert f"TOLLMESH_{name}" in done.stderr


# ---- Sites


def test_events_go_from_site_to_site_where_nats_is_named(tmp_path: Path) -> None:
    east_options = ("--nats-site", "east")
    west_options = ("--nats-site", "west", "--nats-from", "east")
    with (
        nats.serving(tmp_path) as servers,
        start(tmp_path / "e", arguments=("--nats", servers.url, *east_options)) as east,
        start(tmp_path / "w", arguments=("--nats", servers.url, *west_options)) as west,
    ):
        published(east, "order.created", "o-1")
        assert await_event(west, "order.created") == "o-1"
        assert east.stop() == west.stop() == 0


def test_a_transport_that_cannot_be_is_refused(tmp_path: Path) -> None:
    done = up(tmp_path / "data", "--nats", "http://127.0.0.1:4222")
    assert done.returncode == EXIT_USAGE
    assert "write nats://host:4222 or tls://host:4222" in done.stderr
    assert not (tmp_path / "data").exists()


def published(mesh: MeshProcess, subject: str, event_id: str) -> None:
    event = {"id": event_id, "subject": subject, "data": payload_of(subject)}
    request = events_service_pb2.PublishEventsRequest(raw_request=json.dumps([event]).encode())
    with mesh.client() as client:
        stub = client.stub(events_service_pb2_grpc.EventServiceStub)
        (result,) = client.call(stub.PublishEvents, request).results
    assert result.outcome == type_pb2.OUTCOME_ACCEPTED


def await_event(mesh: MeshProcess, subject: str) -> str:
    """Wait for the first event of a subject; returns its id."""
    request = events_service_pb2.ListEventsRequest(subjects=[subject])
    give_up_at = time.monotonic() + ARRIVES_WITHIN_S
    with mesh.client() as client:
        stub = client.stub(events_service_pb2_grpc.EventServiceStub)
        while not (found := client.call(stub.ListEvents, request).events):
            assert time.monotonic() < give_up_at, "it did not arrive"
            time.sleep(0.05)
    return str(found[0].id)
