"""Why a Postgres ended, in one line, and what to do about it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.local.postgres.log import cause_of

AT = "2026-11-28 23:00:00.000 UTC [42] "
OTHER = "2026-11-28 23:00:00.000 UTC [43] "


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (
            f'{AT}PANIC:  could not write to file "pg_wal/xlogtemp.42": No space left on device\n'
            f"{AT}LOG:  startup process (PID 43) was terminated by signal 6: Aborted\n"
            f"{AT}LOG:  aborting startup due to startup process failure\n",
            'could not write to file "pg_wal/xlogtemp.42": No space left on device (free space on its disk)',
        ),
        (
            f'{AT}FATAL:  could not open directory "base": Permission denied\n',
            'could not open directory "base": Permission denied (restore the owner and mode of its files)',
        ),
        (
            f'{AT}FATAL:  lock file "/x/.s.PGSQL.5432.lock" already exists\n'
            f"{AT}HINT:  Is another postmaster (PID 7) using socket file?\n",
            'lock file "/x/.s.PGSQL.5432.lock" already exists: Is another postmaster (PID 7) using socket file? '
            "(stop the other server that uses its socket)",
        ),
        (
            f"{AT}FATAL:  could not map anonymous shared memory: Cannot allocate memory\n"
            f"{AT}HINT:  This error usually means that PostgreSQL's request exceeded available memory.\n",
            "could not map anonymous shared memory: Cannot allocate memory: This error usually means that "
            "PostgreSQL's request exceeded available memory. (give the machine, or the container, more memory)",
        ),
        (
            f"{AT}FATAL:  database files are incompatible with server\n"
            f"{AT}DETAIL:  The data directory was initialized by PostgreSQL version 17.\n",
            "database files are incompatible with server: The data directory was initialized by PostgreSQL "
            "version 17. (start it with the release that wrote it)",
        ),
        (
            f"{AT}PANIC:  could not locate a valid checkpoint record at 0/15FB1F8\n",
            "could not locate a valid checkpoint record at 0/15FB1F8 "
            "(its files are damaged: restore them from a backup)",
        ),
        (
            f'{AT}FATAL:  invalid value for parameter "shared_buffers": "nonsense"\n',
            'invalid value for parameter "shared_buffers": "nonsense" (correct its settings)',
        ),
        (
            "initdb: error: could not create directory /x/base: No space left on device\n",
            "initdb: error: could not create directory /x/base: No space left on device (free space on its disk)",
        ),
        (
            f'{AT}LOG:  invalid value for parameter "log_statement": "wrong"\n'
            f"{AT}HINT:  Available values: none, ddl, mod, all.\n"
            f'{AT}FATAL:  configuration file "/x/postgresql.auto.conf" contains errors\n',
            'configuration file "/x/postgresql.auto.conf" contains errors: invalid value for parameter '
            '"log_statement": "wrong": Available values: none, ddl, mod, all. (correct its settings)',
        ),
        # The end of a session before is not the end of the server; that of a child may be.
        (
            f"{AT}LOG:  starting PostgreSQL 18.0\n"
            f'{OTHER}FATAL:  unrecognized configuration parameter "x.y"\n'
            f"{AT}LOG:  received immediate shutdown request\n"
            f"{AT}LOG:  database system is shut down\n",
            "received immediate shutdown request",
        ),
        (
            f"{AT}LOG:  starting PostgreSQL 18.0\n"
            f'{OTHER}FATAL:  could not access file "pg_xact/0000": No such file or directory\n'
            f"{AT}LOG:  startup process (PID 43) exited with exit code 1\n",
            'could not access file "pg_xact/0000": No such file or directory',
        ),
        # A sentence over three lines.
        (
            "postgres: could not find the database system\n"
            'Expected to find it in the directory "/x",\n'
            'but could not open file "/x/global/pg_control": No such file or directory\n',
            'postgres: could not find the database system Expected to find it in the directory "/x", but could not '
            'open file "/x/global/pg_control": No such file or directory '
            "(its files are damaged: restore them from a backup)",
        ),
        # What follows from a full disk does not hide it.
        (
            f'{AT}FATAL:  could not extend file "base/1/2691": No space left on device\n'
            f"{AT}HINT:  Check free disk space.\n"
            f"{AT}PANIC:  cannot abort transaction 1, it was already committed\n",
            'could not extend file "base/1/2691": No space left on device: Check free disk space. '
            "(free space on its disk)",
        ),
        (
            "2026-11-01 23:00:00.000 UTC [7] FATAL:  could not write: No space left on device\n"
            f"{AT}PANIC:  stuck spinlock\n",
            "stuck spinlock",
        ),
        # Nor is it silent when others ended it.
        (
            f"{AT}LOG:  database system is ready to accept connections\n"
            f'{AT}LOG:  could not open file "postmaster.pid": No such file or directory\n'
            f"{AT}LOG:  performing immediate shutdown because data directory lock file is invalid\n"
            f"{AT}LOG:  received immediate shutdown request\n"
            f"{AT}LOG:  database system is shut down\n",
            "performing immediate shutdown because data directory lock file is invalid",
        ),
        (
            f"{AT}LOG:  received smart shutdown request\n{AT}LOG:  received fast shutdown request\n"
            f"{AT}LOG:  database system is shut down\n",
            "received fast shutdown request",
        ),
        # What its clients were told is not why it ended.
        (
            f"{AT}PANIC:  stuck spinlock\n{AT}FATAL:  terminating connection due to administrator command\n"
            f"{AT}FATAL:  the database system is shutting down\n",
            "stuck spinlock",
        ),
    ],
)
def test_the_cause_is_the_last_panic_or_fatal_with_advice(text: str, cause: str) -> None:
    assert cause_of(text, exit_code=1) == cause


def test_the_text_of_a_statement_is_no_cause() -> None:
    text = (
        f"{AT}ERROR:  canceling statement due to user request\n"
        f"{AT}CONTEXT:  SQL function error_of\n"
        f"{AT}STATEMENT:  SELECT count(*) AS dead,\n"
        "\t       max(x.last_error) AS last_error\n"
        "\t  FROM x -- cannot be empty\n"
        f"{AT}LOG:  could not send data to client: Broken pipe\n"
        f"{AT}STATEMENT:  SELECT last_error\n"
    )
    assert cause_of(text, exit_code=-9) == "it was killed by signal 9"


@pytest.mark.parametrize(
    ("exit_code", "free", "cause"),
    [
        (-9, None, "it was killed by signal 9"),
        (-9, 10**9, "it was killed by signal 9"),
        (3, None, "it exited with code 3 and gave no reason"),
        (None, None, "it gave no reason"),
        # On a full disk there is no room for its last words.
        (1, 0, "No space left on device (free space on its disk)"),
    ],
)
def test_a_server_that_wrote_nothing(exit_code: int | None, free: int | None, cause: str) -> None:
    for text in ("", f"{AT}LOG:  starting PostgreSQL\n"):
        assert cause_of(text, exit_code=exit_code, free_bytes=free) == cause


@given(st.text(max_size=300), st.one_of(st.none(), st.integers(-64, 255)))
def test_whatever_it_wrote_there_is_one_line(text: str, exit_code: int | None) -> None:
    cause = cause_of(text, exit_code=exit_code)
    assert cause and len(cause.splitlines()) == 1
