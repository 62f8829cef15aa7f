"""Named SQL statements kept in `.sql` files.

A statement starts behind a line `-- @name`; what stands before the first marker is explanation. The name goes
out with the statement as a comment, so that it shows in pg_stat_statements.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

_MARKER = re.compile(r"^-- @(\w+)[^\n]*\n", re.MULTILINE)


@cache
def load(package: str, file_name: str) -> dict[str, str]:
    """Read the statements of a file by name.

    Raises:
        FileNotFoundError: the package has no such file.
        ValueError: a name stands twice.
    """
    text = resources.files(package).joinpath(file_name).read_text(encoding="utf-8")
    parts = _MARKER.split(text)[1:]
    statements: dict[str, str] = {}
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        if name in statements:
            raise ValueError(f"{package}/{file_name} names {name} twice")
        statements[name] = f"/* {package.rpartition('.')[2]}.{name} */ {body.strip().rstrip(';')}"
    return statements
