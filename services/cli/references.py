"""References as people write them: `charge:chg_0190…`, with the part behind a hash."""

from __future__ import annotations

import re

from payments.ledger.v1 import ledger_pb2

from services.cli.errors import EXIT_USAGE, CliError

HELP = "kind:id, or kind:id#part, e.g. charge:chg_1#line-2"
_KIND = re.compile(r"[a-z][a-z0-9_.-]{0,63}")


def parse(text: str) -> ledger_pb2.Reference:
    """Read a reference; the id goes up to the first hash. Raises CliError: it is none."""
    kind, colon, rest = text.partition(":")
    id_, _, part = rest.partition("#")
    if not (colon and id_ and _KIND.fullmatch(kind)):
        raise CliError(f"{text!r} is not a reference: write {HELP}", exit_code=EXIT_USAGE)
    return ledger_pb2.Reference(kind=kind, id=id_, part=part)


def has_part(text: str) -> bool:
    """True when a reference names its part, be it an empty one: that of the whole."""
    return "#" in text


def written(reference: ledger_pb2.Reference) -> str:
    """Write a reference; empty for none."""
    if not reference.kind:
        return ""
    return f"{reference.kind}:{reference.id}" + (f"#{reference.part}" if reference.part else "")
