"""Named SQL statements kept in `.sql` files, and how a session runs them.

A statement starts behind a line `-- @name`; what stands before the first marker is explanation. The name goes
out with the statement as a comment, so that it shows in pg_stat_statements.
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

_MARKER = re.compile(r"^-- @(\w+)[^\n]*\n", re.MULTILINE)


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
    """
    text = resources.files(package).joinpath(file_name).read_text(encoding="utf-8")
    parts = _MARKER.split(text)[1:]
    statements = Statements()
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        if name in statements:
            raise ValueError(f"{package}/{file_name} names {name} twice")
        statements[name] = f"/* {package.rpartition('.')[2]}.{name} */ {body.strip().rstrip(';')}"
    return statements
