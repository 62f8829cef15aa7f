"""Runs the Alembic environments of a database, one a service, and is itself that of schema `mesh`.

An environment is a package `services.<name>.migrations` with an `env.py` that calls `run_env("<name>")` and a folder
`versions`. It owns the schema of its name, in which it keeps its version table too. Every environment
depends on `mesh`, which always comes first, and on no other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import psycopg
import sqlalchemy as sa
from alembic import command, context
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from psycopg import sql
from sqlalchemy.engine import Connection

from services.runtime.postgres import roles

MESH = "services.runtime.migrations"

_VERSION_TABLE = "alembic_version"
_LOCK = "tollmesh.migrations"
# alembic.context is one for the whole process.
_one_at_a_time = threading.Lock()


class MigrationFailed(roles.DatabaseUnfit):
    """The schemas cannot be brought to the wanted version; nothing of the failed environment was changed."""


def upgrade(admin_url: str, environments: Sequence[str], revision: str = "head") -> None:
    """Bring environments, and `mesh` before them, to a revision; those that are there already cost a query.

    Each environment is one transaction. Two processes may do this at once.

    Args:
        admin_url: the login that `roles.prepare` was given.
        environments: packages, e.g. `services.ledger.migrations`, in the order in which they should run.
        revision: Alembic revision; `mesh` always goes to its head.

    Raises:
        MigrationFailed: a migration failed, or the database is newer than this code.
        ModuleNotFoundError: no such package.
    """
    others = [name for name in dict.fromkeys(environments) if name != MESH]
    targets = [(MESH, "head"), *((name, revision) for name in others)]
    with _connected(admin_url) as connection:
        for name, target in targets:
            config = _config(name, connection)
            script = ScriptDirectory.from_config(config)
            if target == "head" and script.get_current_head() == _current(connection, schema(name)):
                continue
            _run(connection, name, partial(command.upgrade, config, target))


def downgrade(admin_url: str, environment: str, revision: str = "base") -> None:
    """Take one environment back to a revision.

    Raises:
        MigrationFailed: a migration failed; `mesh` cannot go while another schema stands on it.
    """
    with _connected(admin_url) as connection:
        config = _config(environment, connection)
        _run(connection, environment, partial(command.downgrade, config, revision))


def run_env(name: str) -> None:
    """Run the migrations that Alembic was asked for, as the database's owner role; called by `env.py`.

    Raises:
        RuntimeError: Alembic was started by its own command, without a connection.
    """
    connection: Connection | None = context.config.attributes.get("connection")
    if connection is None:
        raise RuntimeError(
            f"run services.runtime.migrations.upgrade for {name}, not alembic itself"
        )
    with connection.begin():
        connection.execute(
            sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:lock, 0))"), {"lock": _LOCK}
        )
        _make_schema(connection, name)
        context.configure(
            connection=connection,
            version_table=_VERSION_TABLE,
            version_table_schema=name,
            transactional_ddl=True,
        )
        context.run_migrations()


def schema(environment: str) -> str:
    """Schema of an environment: the service's name, `mesh` for the runtime's own."""
    return "mesh" if environment == MESH else environment.split(".")[-2]


def _make_schema(connection: Connection, name: str) -> None:
    names = roles.RoleNames.of_owner(str(connection.scalar(sa.text("SELECT current_user"))))
    connection.execute(sa.schema.CreateSchema(name, if_not_exists=True))
    quote = connection.dialect.identifier_preparer.quote_identifier
    connection.execute(
        sa.text(
            f"GRANT USAGE ON SCHEMA {quote(name)} TO {quote(names.service)}, {quote(names.relay)}"
        )
    )


@contextmanager
def _connected(admin_url: str) -> Iterator[Connection]:
    """A connection that acts as the owner role, alone in this process."""

    def connect() -> psycopg.Connection:
        connection = roles.connect(admin_url)
        names = roles.find_names(connection)
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(names.owner)))
        connection.commit()
        return connection

    engine = sa.create_engine("postgresql+psycopg://", creator=connect, poolclass=sa.pool.NullPool)
    try:
        with _one_at_a_time, engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def _config(environment: str, connection: Connection) -> Config:
    spec = find_spec(environment)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"no package {environment}", name=environment)
    config = Config()
    config.set_main_option("script_location", str(Path(spec.submodule_search_locations[0])))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _current(connection: Connection, name: str) -> str | None:
    """Revision that a schema is at; None when it has none."""
    with connection.begin():
        known = connection.scalar(
            sa.text(
                "SELECT to_regclass(format('%I.%I', CAST(:schema AS text), CAST(:name AS text)))"
            ),
            {"schema": name, "name": _VERSION_TABLE},
        )
        if known is None:
            return None
        table = sa.table(_VERSION_TABLE, sa.column("version_num"), schema=name)
        revision: str | None = connection.scalar(sa.select(table.c.version_num))
        return revision


def _run(connection: Connection, environment: str, work: Callable[[], None]) -> None:
    try:
        work()
    except (sa.exc.DBAPIError, CommandError) as error:
        raise MigrationFailed(f"{environment}: {error}") from error
    finally:
        connection.rollback()  # nothing, unless the migration failed
