"""Roles of a database, made by a superuser or by a login that only owns it and may create roles."""

from __future__ import annotations

import asyncio
import json
import stat
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import psycopg
import pytest

from services.runtime import migrations
from services.runtime.postgres import roles
from services.runtime.postgres.roles import (
    DatabaseTaken,
    DatabaseUnfit,
    DatabaseUnreachable,
    DatabaseUrls,
    Passwords,
)
from tests.support.postgres.server import Server

ROLES = """
SELECT rolname, rolcanlogin, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb
  FROM pg_roles WHERE rolname IN (%s, %s, %s) ORDER BY rolname
"""


@pytest.fixture
def plain_login(postgres_server: Server) -> Iterator[str]:
    """URL of an empty database whose owner is no superuser, only has CREATEROLE."""
    name = f"plain_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_server.admin_url, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {name} LOGIN CREATEROLE PASSWORD 'secret'".encode())
        admin.execute(f"CREATE DATABASE {name} OWNER {name}".encode())
    parts = urlsplit(postgres_server.url(name))
    yield parts._replace(netloc=f"{name}:secret@").geturl()
    with psycopg.connect(postgres_server.admin_url, autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def prepare_anyhow(url: str) -> object:
    return roles.prepare_now(url, passwords=Passwords.generate())


def migrations_anyhow(url: str) -> object:
    migrations.upgrade(url, [])
    return None


def names_of(url: str) -> roles.RoleNames:
    with psycopg.connect(url) as connection:
        return roles.find_names(connection)


def test_no_role_has_more_than_it_needs(database: DatabaseUrls) -> None:
    names = names_of(database.owner_admin)
    with psycopg.connect(database.owner_admin) as admin:
        found = admin.execute(ROLES, [names.owner, names.service, names.relay]).fetchall()
        assert found == sorted(
            [
                (names.owner, False, False, False, False, False),
                (names.relay, True, False, False, False, False),
                (names.service, True, False, False, False, False),
            ]
        )
        for role in (names.owner, names.relay):
            member = admin.execute("SELECT pg_has_role(%s, %s, 'MEMBER')", [names.service, role])
            assert member.fetchone() == (False,), f"the service role is a member of {role}"


def test_the_relay_takes_the_service_role_and_has_nothing_of_it_before(
    database: DatabaseUrls,
) -> None:
    names = names_of(database.owner_admin)
    with psycopg.connect(database.relay) as relay:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            relay.execute("SELECT * FROM mesh.audit")
        relay.rollback()
        relay.execute(f'SET LOCAL ROLE "{names.service}"'.encode())
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="names no tenant"):
            relay.execute("SELECT * FROM mesh.audit")
        relay.rollback()


@pytest.mark.parametrize("which", ["service", "relay"])
def test_logins_make_nothing_that_lasts(database: DatabaseUrls, which: str) -> None:
    with psycopg.connect(getattr(database, which)) as connection:
        for statement in (
            "CREATE SCHEMA mine",
            "CREATE TABLE mesh.mine (id int)",
            "CREATE TABLE public.mine (id int)",
            "CREATE ROLE mine",
            "ALTER TABLE mesh.audit DISABLE ROW LEVEL SECURITY",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())
            connection.rollback()
        connection.execute("CREATE TEMP TABLE staging (id int) ON COMMIT DROP")


def test_a_login_that_only_owns_the_database_will_do(plain_login: str) -> None:
    passwords = Passwords.generate()
    urls = roles.prepare_now(plain_login, passwords=passwords)
    migrations.upgrade(plain_login, ["services.monitoring.migrations"])
    assert roles.prepare_now(plain_login, passwords=passwords) == urls
    with psycopg.connect(urls.service) as service:
        service.execute("SELECT set_config('mesh.tenant', 'a', true)")
        assert service.execute("SELECT * FROM monitoring.violation").fetchall() == []
    # Owning the database gives it no sight of the tenants' rows.
    with (
        psycopg.connect(plain_login) as login,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        login.execute("SELECT * FROM mesh.audit")
    migrations.downgrade(plain_login, "services.monitoring.migrations")


def test_a_login_without_rights_is_told_what_it_lacks(
    database: DatabaseUrls, new_database: Callable[..., DatabaseUrls]
) -> None:
    empty = new_database(empty=True)
    with psycopg.connect(empty.owner_admin, autocommit=True) as admin:
        names = roles.find_names(admin)
        admin.execute(f'REVOKE "{names.service}" FROM "{names.relay}"'.encode())
    with pytest.raises(DatabaseUnfit, match="own the database and have CREATEROLE"):
        roles.prepare_now(empty.service, passwords=Passwords.generate(), take_over=True)


def test_other_passwords_are_refused_and_change_nothing(
    new_database: Callable[..., DatabaseUrls],
) -> None:
    before = new_database(empty=True)
    for _ in range(2):
        with pytest.raises(DatabaseTaken, match="belongs to a mesh with other secrets") as caught:
            roles.prepare_now(before.owner_admin, passwords=Passwords.generate())
        assert str(urlsplit(before.service).password) not in str(caught.value)
        for url in (before.service, before.relay):
            psycopg.connect(url).close()


@pytest.mark.parametrize("spelling", ["user", "us%65r"])
@pytest.mark.parametrize("empty", [True, False])
def test_a_login_among_the_parameters_is_the_owners_alone(
    new_database: Callable[..., DatabaseUrls], spelling: str, empty: bool
) -> None:
    before = new_database(empty=empty)
    parts = urlsplit(before.owner_admin)
    login = f"{spelling}={parts.username}&password={parts.password}"
    address = parts.netloc.rpartition("@")[2]
    admin_url = f"postgresql://{address}{parts.path}?{parts.query}&{login}"
    kept = [unquote(urlsplit(url).password or "") for url in (before.service, before.relay)]
    urls = roles.prepare_now(admin_url, passwords=Passwords(*kept))
    for url in (urls.service, urls.relay):
        with psycopg.connect(url) as connection:
            (user,) = connection.execute("SELECT session_user").fetchone() or ("",)
            assert user == unquote(urlsplit(url).username or "") != parts.username
    with pytest.raises(DatabaseTaken):
        roles.prepare_now(admin_url, passwords=Passwords.generate())


def test_a_session_of_another_role_than_was_asked_for_is_refused(
    new_database: Callable[..., DatabaseUrls],
) -> None:
    before = new_database(empty=True)
    parts = urlsplit(before.owner_admin)
    with psycopg.connect(before.owner_admin, autocommit=True) as admin:
        names = roles.find_names(admin)
        admin.execute(f'GRANT "{names.owner}" TO "{names.service}"'.encode())
    role = quote(f"-c role={names.owner}", safe="")
    admin_url = parts._replace(query=f"{parts.query}&options={role}").geturl()
    kept = [unquote(urlsplit(url).password or "") for url in (before.service, before.relay)]
    with pytest.raises(DatabaseUnfit, match="remove user, password, role"):
        roles.prepare_now(admin_url, passwords=Passwords(*kept))


def test_one_password_of_two_that_differs_is_refused_too(
    new_database: Callable[..., DatabaseUrls],
) -> None:
    before = new_database(empty=True)
    kept = [unquote(urlsplit(url).password or "") for url in (before.service, before.relay)]
    for passwords in (Passwords(kept[0], "another"), Passwords("another", kept[1])):
        with pytest.raises(DatabaseTaken):
            roles.prepare_now(before.owner_admin, passwords=passwords)
    assert roles.prepare_now(before.owner_admin, passwords=Passwords(*kept)) == before


@pytest.mark.parametrize("take_over", [False, True])
def test_a_login_that_fails_for_another_reason_is_no_other_mesh(
    new_database: Callable[..., DatabaseUrls], take_over: bool
) -> None:
    before = new_database(empty=True)
    kept = [unquote(urlsplit(url).password or "") for url in (before.service, before.relay)]
    with psycopg.connect(before.owner_admin, autocommit=True) as admin:
        service = roles.find_names(admin).service
        for rule, undone in (("CONNECTION LIMIT 0", "CONNECTION LIMIT -1"), ("NOLOGIN", "LOGIN")):
            admin.execute(f'ALTER ROLE "{service}" {rule}'.encode())
            with pytest.raises(DatabaseUnreachable, match="cannot log in now") as caught:
                roles.prepare_now(
                    before.owner_admin, passwords=Passwords(*kept), take_over=take_over
                )
            assert "other secrets" not in str(caught.value)
            admin.execute(f'ALTER ROLE "{service}" {undone}'.encode())
    psycopg.connect(before.service).close()


def test_other_passwords_replace_the_old_ones_when_asked_to(
    new_database: Callable[..., DatabaseUrls],
) -> None:
    before = new_database(empty=True)
    after = roles.prepare_now(before.owner_admin, passwords=Passwords.generate(), take_over=True)
    psycopg.connect(after.service).close()
    psycopg.connect(after.relay).close()
    for old in (before.service, before.relay):
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(old)


def test_of_two_that_start_at_once_on_an_empty_database_one_wins(
    plain_login: str, tmp_path: Path
) -> None:
    won: list[DatabaseUrls] = []
    lost: list[DatabaseTaken] = []

    def start(number: int) -> None:
        try:
            won.append(
                roles.prepare_now(plain_login, passwords_file=tmp_path / f"{number}" / "p.json")
            )
        except DatabaseTaken as error:
            lost.append(error)

    threads = [threading.Thread(target=start, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 3)
    psycopg.connect(won[0].service).close()
    psycopg.connect(won[0].relay).close()


def test_another_database_of_the_server_has_roles_of_its_own(
    new_database: Callable[..., DatabaseUrls],
) -> None:
    one, other = new_database(empty=True), new_database(empty=True)
    assert set(role_names_of(one)) & set(role_names_of(other)) == set()
    roles.prepare_now(other.owner_admin, passwords=Passwords.generate(), take_over=True)
    psycopg.connect(one.service).close()


def role_names_of(urls: DatabaseUrls) -> list[str]:
    names = names_of(urls.owner_admin)
    return [names.owner, names.service, names.relay]


def test_a_copy_of_a_database_is_the_same_meshs(
    database: DatabaseUrls, new_database: Callable[..., DatabaseUrls]
) -> None:
    # It carries schema mesh, whose owner names the roles that both share.
    copy = new_database()
    assert names_of(copy.owner_admin) == names_of(new_database().owner_admin)
    with pytest.raises(DatabaseTaken):
        roles.prepare_now(copy.owner_admin, passwords=Passwords.generate())
    psycopg.connect(database.service).close()


def test_two_processes_may_prepare_at_once(postgres_server: Server) -> None:
    url = postgres_server.url("template1").replace("/template1?", "/race?")
    with psycopg.connect(postgres_server.admin_url, autocommit=True) as admin:
        admin.execute("CREATE DATABASE race")
    passwords = Passwords.generate()
    failures: list[Exception] = []

    def work() -> None:
        try:
            roles.prepare_now(url, passwords=passwords)
            migrations.upgrade(url, ["services.monitoring.migrations"])
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_role_that_bypasses_the_wall_is_refused(
    new_database: Callable[..., DatabaseUrls],
) -> None:
    urls = new_database(empty=True)
    with psycopg.connect(urls.owner_admin, autocommit=True) as admin:
        service = roles.find_names(admin).service
        admin.execute(f'ALTER ROLE "{service}" BYPASSRLS'.encode())
        with pytest.raises(DatabaseUnfit, match="BYPASSRLS"):
            roles.prepare_now(urls.owner_admin, passwords=Passwords.generate())


def test_a_foreign_schema_of_the_same_name_is_refused(
    new_database: Callable[..., DatabaseUrls],
) -> None:
    urls = new_database(empty=True)
    with psycopg.connect(urls.owner_admin, autocommit=True) as admin:
        admin.execute("CREATE SCHEMA mesh")
    with pytest.raises(DatabaseUnfit, match="use another database"):
        roles.prepare_now(urls.owner_admin, passwords=Passwords.generate())


def test_a_database_in_another_encoding_is_refused(postgres_server: Server) -> None:
    with psycopg.connect(postgres_server.admin_url, autocommit=True) as admin:
        admin.execute(
            "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE_PROVIDER libc LC_COLLATE 'C' LC_CTYPE 'C' "
            "TEMPLATE template0"
        )
    with pytest.raises(DatabaseUnfit, match="UTF8"):
        roles.prepare_now(postgres_server.url("latin"), passwords=Passwords.generate())


@pytest.mark.parametrize("call", [prepare_anyhow, migrations_anyhow])
def test_a_database_that_is_down_is_told(tmp_path: Path, call: Callable[[str], object]) -> None:
    url = f"postgresql://u:secret@/nothing?host={tmp_path}&port=1"
    with pytest.raises(DatabaseUnreachable, match="cannot connect to database") as caught:
        call(url)
    assert "secret" not in str(caught.value)


def test_passwords_are_made_once_and_kept_private(tmp_path: Path) -> None:
    path = tmp_path / "new" / "passwords.json"
    first = Passwords.from_file(path)
    assert Passwords.from_file(path) == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert set(json.loads(path.read_text())) == {"service", "relay"}
    assert [entry.name for entry in path.parent.iterdir()] == ["passwords.json"]


async def test_the_asynchronous_forms_do_the_same(
    new_database: Callable[..., DatabaseUrls], tmp_path: Path
) -> None:
    admin = new_database(empty=True).owner_admin
    with pytest.raises(DatabaseTaken):
        await roles.prepare(admin, passwords_file=tmp_path / "passwords.json")
    urls = await roles.prepare(admin, passwords_file=tmp_path / "passwords.json", take_over=True)
    await asyncio.to_thread(migrations.upgrade, admin, ["services.monitoring.migrations"])
    with psycopg.connect(urls.service) as service:
        service.execute("SELECT set_config('mesh.tenant', 'a', true)")
        assert service.execute("SELECT * FROM monitoring.contract").fetchall() == []
