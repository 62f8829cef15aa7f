"""Every named statement of the product is one that Postgres understands without being told the types of its values."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest
from psycopg.pq import ExecStatus

import services
from services.runtime.postgres import sql
from services.runtime.postgres.statements import Statement
from tests.support.postgres.server import DatabaseUrls

# Rows that are locked up to a number: joined with what changes them, they may be looked for again for each row,
# and each time others are found.
_LOCKED_AGAIN = re.compile(
    r"/\*.*?\*/\s*(?:UPDATE|DELETE)\b.*\bLIMIT\b.*\bFOR (?:NO KEY )?UPDATE", re.DOTALL
)
IS_TIME = re.compile(r"now|.*_at|due_before|end_before").fullmatch
TIMES = {1184, 1185}  # timestamptz, and arrays of it
ROOT = Path(services.__path__[0])
FILES = sorted(ROOT.rglob("*.sql"))


@pytest.mark.parametrize("file", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_taken_up_to_a_number_is_taken_once(file: Path) -> None:
    package = ".".join(("services", *file.relative_to(ROOT).parent.parts))
    again = [
        name for name, text in sql.load(package, file.name).items() if _LOCKED_AGAIN.match(text)
    ]
    assert again == []


@pytest.mark.parametrize("file", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_postgres_finds_the_types_of_all_values(
    untouched_database: DatabaseUrls, file: Path
) -> None:
    package = ".".join(("services", *file.relative_to(ROOT).parent.parts))
    refused: dict[str, str] = {}
    with psycopg.connect(untouched_database.owner_admin, autocommit=True) as connection:
        statements = sql.load(package, file.name)
        if "create_staging" in statements:
            connection.execute(statements["create_staging"].encode())
        for name, text in statements.items():
            made = Statement(text)
            prepared = connection.pgconn.prepare(made.name, made.query)
            if prepared.status != ExecStatus.COMMAND_OK:
                refused[name] = prepared.error_message.decode()
                continue
            described = connection.pgconn.describe_prepared(made.name)
            for number, parameter in enumerate(made.names):
                # Without another hint Postgres takes a value for a text, and compares or returns it as one.
                if IS_TIME(parameter) and described.param_type(number) not in TIMES:
                    refused[name] = f"{parameter} is no time"
    assert refused == {}
