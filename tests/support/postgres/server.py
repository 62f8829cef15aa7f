"""One Postgres for all workers of a test run, and a fresh migrated database for each.

The first worker that needs it starts a keeper, a process of its own that runs the server and stops it once no
worker is left. Workers hold a shared lock on a file and the keeper waits for the exclusive one, so the
kernel counts them, however they end.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

import psycopg
from psycopg.conninfo import conninfo_to_dict

from services.local.postgres.server import EmbeddedPostgres
from services.runtime import manifests, migrations
from services.runtime.postgres import roles
from services.runtime.postgres.roles import DatabaseUrls, Passwords

__all__ = ["DatabaseUrls", "Server", "alone", "join", "service_environments"]

REPOSITORY = Path(__file__).parents[3]
TEMPLATE = "mesh_template"
READY_WITHIN_S = 60.0

# Databases of tests do not outlive their run, so a power failure has nothing to destroy.
_SETTINGS = {"fsync": "off", "full_page_writes": "off", "max_connections": "200"}


@dataclass(frozen=True, slots=True)
class Server:
    """The shared server.

    Attributes:
        admin_url: database `postgres` as superuser.
        passwords: of the service and relay roles of databases made here.
    """

    admin_url: str
    passwords: Passwords

    def url(self, database: str) -> str:
        """Superuser's URL of a database."""
        return self.admin_url.replace("@/postgres?", f"@/{database}?")

    def new_database(self, prefix: str, *, template: str = TEMPLATE) -> DatabaseUrls:
        """Create a database: migrated, or empty with template `template1`; its roles are ready in both."""
        name = f"{prefix}_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.admin_url, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'.encode())
        return roles.prepare_now(self.url(name), passwords=self.passwords)

    def drop_database(self, urls: DatabaseUrls) -> threading.Thread:
        """Have a database dropped, whoever is still connected; returns what drops it, and nobody has to wait for it.

        Postgres 18 drops none while any client of the server has not finished its log-in. One that an event loop left
        there goes on only when the loop runs again: waiting here would keep it from that, for a minute.
        """
        name = conninfo_to_dict(urls.owner_admin)["dbname"]
        dropping = threading.Thread(target=self._drop, args=(name,), daemon=True)
        dropping.start()
        return dropping

    def _drop(self, name: str) -> None:
        # Whatever is left goes with the server.
        with (
            contextlib.suppress(psycopg.Error),
            psycopg.connect(self.admin_url, autocommit=True) as connection,
        ):
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())


def service_environments() -> list[str]:
    """Alembic environments of all services, or of those that TOLLMESH_TEST_SERVICES names."""
    chosen = os.environ.get("TOLLMESH_TEST_SERVICES", "")
    wanted = {name.strip() for name in chosen.split(",") if name.strip()}
    return [
        service.migrations
        for service in manifests.found()
        if service.migrations and (not wanted or service.name in wanted)
    ]


def join(run_id: str) -> tuple[Server, int]:
    """Join the server of a test run, starting it when there is none.

    Returns the server and a file descriptor: as long as it is open the server stays.

    Raises:
        RuntimeError: the server did not start; its log is in the message.
    """
    folder = Path(tempfile.gettempdir(), f"tollmesh-tests-{os.geteuid()}-{run_id}")
    while True:
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.lstat().st_uid != os.geteuid():
            raise RuntimeError(f"{folder} belongs to another user: remove it")
        with (folder / "start").open("w") as start:
            fcntl.flock(start, fcntl.LOCK_EX)  # one worker at a time looks and starts
            if not _is_there(folder / "start", start.fileno()):
                continue  # an earlier keeper removed it meanwhile
            present = os.open(folder / "present", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(present, fcntl.LOCK_SH)
            try:
                return _server(folder), present
            except BaseException:
                os.close(present)
                raise


def _server(folder: Path) -> Server:
    state = folder / "state.json"
    if not state.exists():
        _start_keeper(folder)
        _await(state, folder / "failure")
    stored = json.loads(state.read_text(encoding="utf-8"))
    return Server(stored["admin_url"], Passwords(**stored["passwords"]))


def _is_there(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _start_keeper(folder: Path) -> None:
    command = [sys.executable, "-m", "tests.support.postgres.server", str(folder)]
    with (folder / "keeper.log").open("w") as log:
        subprocess.run(
            command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True
        )


def _await(state: Path, failure: Path) -> None:
    give_up_at = time.monotonic() + READY_WITHIN_S
    while not state.exists():
        if failure.exists() or time.monotonic() > give_up_at:
            reason = failure.read_text(encoding="utf-8") if failure.exists() else "it took too long"
            raise RuntimeError(
                f"no Postgres for the tests: {reason}\n"
                "(TOLLMESH_TEST_SERVICES=a,b migrates only those services)"
            )
        time.sleep(0.02)


def keep(folder: Path) -> None:
    """Run the server until every worker has gone; then remove all of it."""
    try:
        with EmbeddedPostgres(folder / "data", settings=_SETTINGS) as server:
            _make_template(server, folder)
            start = _await_departure(folder)
    except Exception:
        new = folder / "failure.new"
        new.write_text(traceback.format_exc(), encoding="utf-8")
        new.rename(folder / "failure")
        start = _await_departure(folder)
    with start:
        shutil.rmtree(folder)


def _await_departure(folder: Path) -> TextIO:
    """Wait until no worker is there and none is coming; until the returned file is closed none can come."""
    start = (folder / "start").open("r+")
    while True:
        with (folder / "present").open("r+") as present:
            fcntl.flock(present, fcntl.LOCK_EX)
            try:
                fcntl.flock(start, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return start
            except BlockingIOError:
                pass  # a worker is coming in just now: let it pass
        time.sleep(0.1)


@contextmanager
def alone(folder: Path, environments: Sequence[str] | None = None) -> Iterator[Server]:
    """Run a server for one suite, for what others on the shared one must not feel, or what they disturb.

    A transaction that is kept open holds back every database of its server, for example.

    Args:
        folder: where it keeps its files.
        environments: what its databases are migrated to beside `mesh`; all services without it.
    """
    with EmbeddedPostgres(folder, settings=_SETTINGS) as server:
        yield _with_template(
            server, service_environments() if environments is None else environments
        )


def _with_template(server: EmbeddedPostgres, environments: Sequence[str]) -> Server:
    passwords = Passwords.generate()
    urls = roles.prepare_now(server.create_database(TEMPLATE), passwords=passwords)
    migrations.upgrade(urls.owner_admin, environments)
    return Server(server.admin_url(), passwords)


def _make_template(server: EmbeddedPostgres, folder: Path) -> None:
    made = _with_template(server, service_environments())
    state = {"admin_url": made.admin_url, "passwords": asdict(made.passwords)}
    new = folder / "state.new"
    new.write_text(json.dumps(state), encoding="utf-8")
    new.rename(folder / "state.json")


if __name__ == "__main__":
    if os.fork():
        os._exit(0)
    os.setsid()
    keep(Path(sys.argv[1]))
