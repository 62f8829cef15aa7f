"""The roles of a database, and the URLs that name them.

* owner (NOLOGIN): owns every schema and table; migrations run as it.
* service (LOGIN): what services log in as. Row-level security shows it one tenant at a time.
* relay (LOGIN): sequences and dispatches events of all tenants; takes the service's role before a handler.

Nobody has BYPASSRLS, and the service role is a member of no other. Roles belong to the whole cluster, so their
names carry the database's name and id. A database that was copied from a template keeps its roles: the
owner of schema `mesh` tells which.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import psycopg
from psycopg import sql

# sha256 passwords, MERGE, and a schema `public` that not everyone may create in.
_SERVER_VERSION_MIN = 150000
# From here on membership is granted with options of its own, and making a role no longer grants its use.
_SERVER_VERSION_GRANT_OPTIONS = 160000
_LOCK = "tollmesh.roles"
_NAME_MAX = 40
_CONNECT_WITHIN_S = 10
# Parameters of a URL that belong to the login which it is made for.
_OF_THE_LOGIN = frozenset({"user", "password"})


class DatabaseUnfit(Exception):
    """The database, or the login that was given for it, cannot carry a mesh. The message says why."""


class DatabaseTaken(DatabaseUnfit):
    """The database's roles have other passwords: it belongs to a mesh whose secrets lie elsewhere."""


class PasswordsDamaged(DatabaseUnfit):
    """The file that keeps the passwords of a database's roles holds none."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(
            f"{path} {what}: restore it from a backup; or, if no mesh uses it, delete it and start with "
            "--take-over, which sets new passwords for the database's roles"
        )


class DatabaseUnreachable(DatabaseUnfit):
    """The database cannot be reached, or refuses the login."""


@dataclass(frozen=True, slots=True)
class RoleNames:
    """The three roles of a database."""

    owner: str
    service: str
    relay: str

    @classmethod
    def of_base(cls, base: str) -> Self:
        """The roles whose names start with `base`."""
        return cls(f"{base}_owner", f"{base}_service", f"{base}_relay")

    @classmethod
    def of_owner(cls, owner: str) -> Self:
        """The roles that belong to an owner role. Raises ValueError when it is none."""
        if not owner.endswith("_owner"):
            raise ValueError(
                f"{owner} is not the owner role of a mesh: migrate with services.runtime.migrations"
            )
        return cls.of_base(owner.removesuffix("_owner"))


@dataclass(frozen=True, slots=True)
class Passwords:
    """Passwords of the two roles that log in."""

    service: str
    relay: str

    @classmethod
    def generate(cls) -> Self:
        """New random passwords."""
        return cls(secrets.token_urlsafe(32), secrets.token_urlsafe(32))

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read them from a JSON file that only its owner can read; make it when it is missing.

        Two processes that make it at once end up with the same passwords: the first file stands.

        Raises:
            PasswordsDamaged: the file holds none.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(asdict(cls.generate()), file)
                file.flush()
                os.fsync(file.fileno())
            path.hardlink_to(name)
        except FileExistsError:
            pass
        finally:
            Path(name).unlink()
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise PasswordsDamaged(path, f"cannot be read ({error.strerror})") from error
        except (ValueError, RecursionError) as error:
            raise PasswordsDamaged(path, "is damaged") from error
        found = (
            [stored.get(name) for name in ("service", "relay")] if isinstance(stored, dict) else []
        )
        kept = [text for text in found if isinstance(text, str) and text and text.isprintable()]
        if len(kept) < 2:
            raise PasswordsDamaged(path, "is damaged")
        return cls(*kept)


@dataclass(frozen=True, slots=True)
class DatabaseUrls:
    """One database by three logins.

    Attributes:
        owner_admin: the login that prepares and migrates; never given to a service.
        service: what services use.
        relay: what the sequencer and the dispatcher use.
    """

    owner_admin: str
    service: str
    relay: str


async def prepare(
    admin_url: str,
    *,
    passwords: Passwords | None = None,
    passwords_file: Path | None = None,
    take_over: bool = False,
) -> DatabaseUrls:
    """Make the roles of a database, once; see `prepare_now`."""
    return await asyncio.to_thread(
        prepare_now,
        admin_url,
        passwords=passwords,
        passwords_file=passwords_file,
        take_over=take_over,
    )


def prepare_now(
    admin_url: str,
    *,
    passwords: Passwords | None = None,
    passwords_file: Path | None = None,
    take_over: bool = False,
) -> DatabaseUrls:
    """Make the roles of a database, or bring them to what they should be. Repeating it changes nothing.

    Args:
        admin_url: a login that owns the database and may create roles (or a superuser), PostgreSQL 15+.
        passwords: of service and relay.
        passwords_file: where the passwords are kept when none are given.
        take_over: replace passwords that are others; whoever still uses those is locked out.

    Raises:
        DatabaseTaken: the roles have other passwords; nothing was changed.
        DatabaseUnreachable: nothing answers there, or a login fails, for another reason than its password.
        DatabaseUnfit: the server is too old, or the login lacks a right.
    """
    if passwords is None:
        if passwords_file is None:
            raise ValueError("give passwords or passwords_file")
        passwords = Passwords.from_file(passwords_file)
    with connect(admin_url) as connection:
        _check_server(connection)
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [_LOCK])
        names = find_names(connection)
        urls = DatabaseUrls(
            owner_admin=admin_url,
            service=_as_login(admin_url, names.service, passwords.service),
            relay=_as_login(admin_url, names.relay, passwords.relay),
        )
        try:
            set_anew = _make_roles(connection, names, urls, passwords, take_over=take_over)
        except psycopg.errors.InsufficientPrivilege as error:
            raise DatabaseUnfit(
                f"login {connection.info.user} cannot prepare database {connection.info.dbname}: "
                f"{error.diag.message_primary}. It must own the database and have CREATEROLE"
            ) from error
    for name, url in set_anew:
        said, _ = _login(url, name)
        if said:
            raise DatabaseUnreachable(f"role {name} cannot log in: {said}")
    return urls


def connect(admin_url: str) -> psycopg.Connection:
    """Connect as the login that prepares and migrates. Raises DatabaseUnreachable."""
    try:
        return psycopg.connect(admin_url, connect_timeout=_CONNECT_WITHIN_S)
    except psycopg.Error as error:
        parts = urlsplit(admin_url)
        place = parts.netloc.rpartition("@")[2] + parts.path
        said = " ".join(str(error).split())
        raise DatabaseUnreachable(f"cannot connect to database {place}: {said}") from error


def find_names(connection: psycopg.Connection) -> RoleNames:
    """Names of the roles of the database that the connection is on, made or yet to be made."""
    row = connection.execute(
        "SELECT (SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'mesh'), "
        "datname, oid FROM pg_database WHERE datname = current_database()"
    ).fetchone()
    assert row is not None, "the current database is in the catalogue"
    owner, database, oid = row
    if owner is not None:
        try:
            return RoleNames.of_owner(owner)
        except ValueError as error:
            raise DatabaseUnfit(
                f"schema mesh of database {database} belongs to {owner}, not to a mesh: use another database"
            ) from error
    return RoleNames.of_base(f"{database[:_NAME_MAX]}_{oid}")


def _check_server(connection: psycopg.Connection) -> None:
    version = connection.info.server_version
    if version < _SERVER_VERSION_MIN:
        raise DatabaseUnfit(
            f"the server is PostgreSQL {version // 10000}; a mesh needs 15 or later: upgrade it"
        )
    encoding = connection.execute("SHOW server_encoding").fetchone()
    if encoding != ("UTF8",):
        raise DatabaseUnfit(
            f"database {connection.info.dbname} is encoded in {encoding and encoding[0]}: "
            f"create it WITH ENCODING 'UTF8'"
        )


def _make_roles(
    connection: psycopg.Connection,
    names: RoleNames,
    urls: DatabaseUrls,
    passwords: Passwords,
    *,
    take_over: bool,
) -> list[tuple[str, str]]:
    """Return the logins whose passwords were set, which cannot be tried before they are committed."""
    _make_role(connection, names.owner, "NOLOGIN")
    set_anew = []
    logins = (
        (names.service, urls.service, passwords.service),
        (names.relay, urls.relay, passwords.relay),
    )
    for name, url, password in logins:
        made = _make_role(connection, name, "LOGIN")
        refused = "" if made else _password_refused(url, name)
        if refused and not take_over:
            # Never replaced unasked: somebody may work with them.
            raise DatabaseTaken(
                f"database {connection.info.dbname} belongs to a mesh with other secrets: its role {name} does not "
                f"accept the password that is stored here ({refused})"
            )
        if made or refused:
            _set_password(connection, name, password)
            set_anew.append((name, url))
    # Membership is what SET ROLE needs; without INHERIT the relay has none of the service's rights, and no
    # policy of the service's applies to it, until it takes that role.
    _grant_membership(connection, names.owner, connection.info.user)
    _grant_membership(connection, names.service, names.relay)
    _grant_on_database(connection, names.owner, ("CONNECT", "CREATE", "TEMPORARY"))
    _grant_on_database(connection, names.service, ("CONNECT", "TEMPORARY"))
    _grant_on_database(connection, names.relay, ("CONNECT", "TEMPORARY"))
    return set_anew


def _make_role(connection: psycopg.Connection, name: str, login: str) -> bool:
    """Create a role unless it exists; return whether it was created."""
    found = connection.execute("SELECT rolbypassrls FROM pg_roles WHERE rolname = %s", [name])
    row = found.fetchone()
    if row is None:
        attributes = sql.SQL("{} NOINHERIT" if login == "LOGIN" else "{}").format(sql.SQL(login))
        connection.execute(sql.SQL("CREATE ROLE {} {}").format(sql.Identifier(name), attributes))
        return True
    if row[0]:
        raise DatabaseUnfit(
            f"role {name} has BYPASSRLS, which would show it every tenant's rows: "
            f'ALTER ROLE "{name}" NOBYPASSRLS'
        )
    return False


def _password_refused(url: str, name: str) -> str:
    """Return what the server says when it refuses the password of a login; an empty text when it takes it.

    Raises:
        DatabaseUnreachable: the login fails, and not for its password: too many connections, for example.
    """
    said, asked = _login(url, name)
    if not said:
        return ""
    # The driver has no code for it, and the server may speak any language: a password that is wrong for sure tells.
    wrong = _login(_as_login(url, name, secrets.token_urlsafe(32)), name)
    if asked and wrong == (said, asked):
        return said
    raise DatabaseUnreachable(f"role {name} cannot log in now: {said}")


def _login(url: str, name: str) -> tuple[str, bool]:
    """Log in and out; returns what was said against it, or an empty text, and whether a password was asked for.

    Raises:
        DatabaseUnfit: it is another role's session: the walls between tenants may not bind that one.
    """
    try:
        with psycopg.connect(url, connect_timeout=_CONNECT_WITHIN_S) as connection:
            users = connection.execute("SELECT session_user, current_user").fetchone()
    except psycopg.OperationalError as error:
        # The last line is the server's; those before say what was tried.
        said = str(error).strip().splitlines()[-1].strip()
        return said, error.pgconn is not None and bool(error.pgconn.used_password)
    if users != (name, name):
        raise DatabaseUnfit(
            f"a login as {name} becomes a session of {users}: remove user, password, role and session_authorization "
            "from the parameters of the database's URL"
        )
    return "", False


def _set_password(connection: psycopg.Connection, name: str, password: str) -> None:
    """Store a password by its SCRAM verifier, so that it appears in no statement and no log."""
    verifier = connection.pgconn.encrypt_password(
        password.encode(), name.encode(), b"scram-sha-256"
    )
    connection.execute(
        sql.SQL("ALTER ROLE {} PASSWORD {}").format(
            sql.Identifier(name), sql.Literal(verifier.decode())
        )
    )


def _grant_membership(connection: psycopg.Connection, role: str, member: str) -> None:
    """Let a login take a role by SET ROLE, without inheriting its rights."""
    options = connection.info.server_version >= _SERVER_VERSION_GRANT_OPTIONS
    held = connection.execute(
        "SELECT pg_has_role(%s, %s, %s)", [member, role, "SET" if options else "MEMBER"]
    ).fetchone()
    if held == (True,):
        return
    connection.execute(
        sql.SQL("GRANT {} TO {} {}").format(
            sql.Identifier(role),
            sql.Identifier(member),
            sql.SQL("WITH INHERIT FALSE, SET TRUE" if options else ""),
        )
    )


def _grant_on_database(
    connection: psycopg.Connection, role: str, privileges: Sequence[str]
) -> None:
    database = connection.info.dbname
    wanted = [[role, database, privilege] for privilege in privileges]
    query = "SELECT has_database_privilege(%s, %s, %s)"
    if all(connection.execute(query, terms).fetchone() == (True,) for terms in wanted):
        return
    connection.execute(
        sql.SQL("GRANT {} ON DATABASE {} TO {}").format(
            sql.SQL(", ").join(map(sql.SQL, privileges)),
            sql.Identifier(database),
            sql.Identifier(role),
        )
    )


def _as_login(url: str, user: str, password: str) -> str:
    """The same database by another login, wherever the URL names its own: a parameter wins over the address."""
    parts = urlsplit(url)
    _login, _at, address = parts.netloc.rpartition("@")
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    parameters = [
        parameter
        for parameter in parts.query.split("&")
        if unquote(parameter.partition("=")[0]) not in _OF_THE_LOGIN
    ]
    return urlunsplit(parts._replace(netloc=f"{login}@{address}", query="&".join(parameters)))
