"""`python -m tollmesh_verify FILE`: verify an export; `… receipts FILE...`: receipts. `-` reads standard input."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tollmesh_verify.reading import BYTES_MAX, Refused, shown
from tollmesh_verify.receipts import ReceiptsReport, verify_receipts
from tollmesh_verify.report import Report, Verdict
from tollmesh_verify.verifying import verify

USAGE = """\
usage: python -m tollmesh_verify [--json] FILE
       python -m tollmesh_verify receipts [--json] [--charge EXPORT] FILE...
Verifies what `tollmesh explain CHARGE --export FILE` wrote, or what `tollmesh receipts get` and `tollmesh receipts
consistency` wrote, against an exported charge if one is named; - is standard input.
exit codes: 0 verified - 2 no export, or it cannot be read - 6 nothing differs, but not everything can be recomputed
- 7 something differs"""
EXIT_REFUSED = 2
EXIT_CODES = {Verdict.VERIFIED: 0, Verdict.INCOMPLETE: 6, Verdict.DIFFERENT: 7}


def main(arguments: list[str]) -> int:
    """Verify the files that are named; returns the exit code."""
    as_json = "--json" in arguments
    words = [word for word in arguments if word != "--json"]
    if words[:1] in (["-h"], ["--help"]):
        print(USAGE)
        return 0
    try:
        report = _receipts(words[1:]) if words[:1] == ["receipts"] else _export(words)
    except OSError as error:
        print(f"cannot read {shown(str(error.filename))}: {error.strerror}", file=sys.stderr)
        return EXIT_REFUSED
    except Refused as error:
        print(f"refused: {error}", file=sys.stderr)
        return EXIT_REFUSED
    if report is None:
        print(USAGE)
        return EXIT_REFUSED
    if as_json:
        print(json.dumps(report.document()))
    else:
        for text in report.lines_of_text():
            print(text)
    return EXIT_CODES[report.verdict]


def _export(words: list[str]) -> Report | None:
    if len(words) != 1:
        return None
    try:
        return verify(_read(words[0]))
    except Refused as error:
        raise Refused(f"{shown(words[0])}: {error}") from error


def _receipts(words: list[str]) -> ReceiptsReport | None:
    charge = None
    if "--charge" in words:
        at = words.index("--charge")
        name = words[at + 1 : at + 2]
        if not name:
            return None
        charge = (name[0], _read(name[0]))
        words = words[:at] + words[at + 2 :]
    if not words:
        return None
    return verify_receipts([(name, _read(name)) for name in words], charge)


def _read(name: str) -> bytes:
    """Read no more than an export may have."""
    if name == "-":
        return sys.stdin.buffer.read(BYTES_MAX + 1)
    with Path(name).open("rb") as file:
        return file.read(BYTES_MAX + 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
