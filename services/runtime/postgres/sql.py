"""Named SQL statements kept in `.sql` files, and how a session runs them.

A statement starts behind a line `-- @name`; what stands before the first marker is explanation. The name goes
out with the statement as a comment, so that it shows in pg_stat_statements.

What stands behind `-- @name over rows of one, other` goes on with `WITH rows AS (…)`, in which one of these statements
stands: it makes the statements `name_of_one` and `name_of_other`. If that one goes on with another, all stand in one
WITH: the planner does not merge what has a WITH of its own into what is around it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from services.runtime.postgres.session import Call, Rows, Session
from services.runtime.postgres.statements import statement

_MARKER = re.compile(r"^-- @(\w+)(?: over (\w+) of (\w+(?:, \w+)*))?[^\n]*\n", re.MULTILINE)


class Statements(dict[str, str]):
    """The statements of a file by name."""

    def call(self, name: str, parameters: Mapping[str, object]) -> Call:
        """Return a statement with its values."""
        return Call(statement(self[name]), parameters)

    async def rows(
        self, session: Session, name: str, /, **parameters: object
    ) -> list[dict[str, Any]]:
        """Run a statement and return its rows. Raises TimeoutError once the session's limit has passed."""
        return (await self._run(session, name, parameters)).mappings()

    async def row(
        self, session: Session, name: str, /, **parameters: object
    ) -> dict[str, Any] | None:
        """Run a statement and return its first row, or None."""
        found = await self.rows(session, name, **parameters)
        return found[0] if found else None

    async def changed(self, session: Session, name: str, /, **parameters: object) -> int:
        """Run a statement and return how many rows it wrote."""
        return (await self._run(session, name, parameters)).rowcount

    async def _run(self, session: Session, name: str, parameters: Mapping[str, object]) -> Rows:
        async with asyncio.timeout(session.limit_s):
            (answer,) = await session.run(self.call(name, parameters))
        return answer


@cache
def load(package: str, file_name: str) -> Statements:
    """Read the statements of a file.

    Raises:
        FileNotFoundError: the package has no such file.
        ValueError: a name stands twice.
        KeyError: a statement goes on with one that does not stand before it.
    """
    text = resources.files(package).joinpath(file_name).read_text(encoding="utf-8")
    parts = _MARKER.split(text)[1:]
    statements = Statements()
    # Of each statement: what it goes on with, and itself.
    known: dict[str, tuple[tuple[str, ...], str]] = {}
    service = package.rpartition(".")[2]
    for name, rows, sources, body in zip(*(parts[at::4] for at in range(4)), strict=True):
        own = body.strip().rstrip(";")
        made: dict[str, tuple[tuple[str, ...], str]] = {name: ((), own)}
        if rows:
            made = {}
            for source in sources.split(", "):
                before, inner = known[source]
                made[f"{name}_of_{source}"] = (
                    (*before, f"{rows} AS (/* {service}.{source} */ {inner})"),
                    own,
                )
        for full_name, (before, whole) in made.items():
            if full_name in statements:
                raise ValueError(f"{package}/{file_name} names {full_name} twice")
            known[full_name] = before, whole
            goes_on = f"WITH {', '.join(before)}\n" if before else ""
            statements[full_name] = f"/* {service}.{full_name} */ {goes_on}{whole}"
    return statements
