"""The seal of a file: a hash of its content, and a short check value of each field that names what was changed.

It finds what was changed since the export, also in fields that nothing can be computed from, such as a name. Whoever
changes a file can seal it anew; what is computed has to agree all the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tollmesh_verify.reading import Refused, path_below

_CHECK_CHARS = 8


@dataclass(frozen=True)
class Changed:
    """A field that is not as it was sealed.

    Attributes:
        charge: number of the charge in the file, from 0; None: it is of the seal itself.
        line: number of the line in the charge, from 0; None: it is no line's.
    """

    charge: int | None
    line: int | None
    field: str
    written: Any
    recomputed: str


@dataclass(frozen=True)
class Section:
    """The charge without its lines, or one line: its values by path, and what is hashed of each."""

    charge: int
    line: int | None
    values: Mapping[str, Any]
    said: Mapping[str, bytes]

    @classmethod
    def of(cls, charge: int, line: int | None, message: Any) -> Section:
        """Take a message apart."""
        values = dict(sorted(_leaves(message)))
        return cls(charge, line, values, {path: _said(path, each) for path, each in values.items()})

    def checks(self) -> dict[str, str]:
        """Return the check value of each path, in their order."""
        return {
            path: hashlib.sha256(said).hexdigest()[:_CHECK_CHARS]
            for path, said in self.said.items()
        }


def seal(charges: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the seal of exported charges."""
    found: dict[str, Any] = {"sha256": "", "charges": [{"lines": []} for _ in charges]}
    sections = [*sections_of(charges)]
    for section in sections:
        text = "".join(section.checks().values())
        entry = found["charges"][section.charge]
        if section.line is None:
            entry["charge"] = text
        else:
            entry["lines"].append(text)
    found["sha256"] = digest(sections)
    return found


def seal_of_one(body: Mapping[str, Any]) -> dict[str, str]:
    """Return the seal of a file that is no export of charges."""
    section = Section.of(0, None, body)
    return {"sha256": digest([section]), "checks": "".join(section.checks().values())}


def changes_of_one(body: Mapping[str, Any], written: object) -> list[Changed]:
    """Return what of such a file is not as it was sealed.

    Raises:
        Refused: the seal is none.
    """
    if not isinstance(written, dict) or set(written) != {"sha256", "checks"}:
        raise Refused("its seal is incomplete")
    if not all(isinstance(text, str) for text in written.values()):
        raise Refused("its seal is incomplete")
    section = Section.of(0, None, body)
    sha256 = digest([section])
    found: list[Changed] = []
    if sha256 != written["sha256"]:
        found = _in_section(section, written["checks"])
        return found or [Changed(None, None, "seal.sha256", written["sha256"], sha256)]
    if written["checks"] != "".join(section.checks().values()):
        found.append(Changed(None, None, "seal.checks", "another one", "what the content seals to"))
    return found


def sections_of(charges: Sequence[Mapping[str, Any]]) -> Iterator[Section]:
    """Take charges apart."""
    for number, charge in enumerate(charges):
        lines = charge.get("lines", [])
        yield Section.of(number, None, {k: v for k, v in charge.items() if k != "lines"})
        for place, line in enumerate(lines):
            yield Section.of(number, place, line)


def digest(sections: Sequence[Section]) -> str:
    """Return the SHA-256 of all values, whatever the order of keys and the white space between them."""
    found = hashlib.sha256()
    for section in sections:
        found.update(f"\x01{section.charge} {section.line}\n".encode())
        for said in section.said.values():
            found.update(said)
    return found.hexdigest()


def changes(
    charges: Sequence[Mapping[str, Any]],
    sections: Sequence[Section],
    sha256: str,
    written: Mapping[str, Any],
) -> list[Changed]:
    """Return what is not as it was sealed.

    Args:
        charges: what the file holds.
        sections: the same, taken apart.
        sha256: their digest.
        written: the seal.

    Raises:
        Refused: the seal is none.
    """
    _check_form(written)
    is_as_sealed = sha256 == written["sha256"]
    found: list[Changed] = []
    for section in sections:
        text = _written(written, section)
        found += _in_seal(section, text) if is_as_sealed else _in_section(section, text)
    found += _left_over(charges, written)
    if not is_as_sealed and not found:
        found.append(Changed(None, None, "seal.sha256", written["sha256"], sha256))
    return found


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Give each value with its path; the depth of a file is bounded."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _leaves(item, path_below(path, key))
    elif isinstance(value, list) and value:
        for number, item in enumerate(value):
            yield from _leaves(item, f"{path}[{number}]")
    else:
        yield path, value


def _said(path: str, value: Any) -> bytes:
    return f"{path}\0{json.dumps(value)}\n".encode()


def _check_form(written: Mapping[str, Any]) -> None:
    charges = written.get("charges")
    if not isinstance(written.get("sha256"), str) or not isinstance(charges, list):
        raise Refused("its seal is incomplete")
    for entry in charges:
        if not isinstance(entry, dict) or not isinstance(entry.get("lines"), list):
            raise Refused("its seal is incomplete")
        for text in (entry.get("charge"), *entry["lines"]):
            if not isinstance(text, str):
                raise Refused("its seal is incomplete")


def _written(written: Mapping[str, Any], section: Section) -> str:
    entries = written["charges"]
    if section.charge >= len(entries):
        return ""
    entry = entries[section.charge]
    if section.line is None:
        return str(entry["charge"])
    return str(entry["lines"][section.line]) if section.line < len(entry["lines"]) else ""


def _in_section(section: Section, text: str) -> list[Changed]:
    """Name the fields whose check value is not in the seal, and say when others are gone."""
    sealed = {text[at : at + _CHECK_CHARS] for at in range(0, len(text), _CHECK_CHARS)}
    found = []
    checks = section.checks()
    for path, check in checks.items():
        if check not in sealed:
            told = f"another value: its check value is {check}, which was not sealed"
            found.append(Changed(section.charge, section.line, path, section.values[path], told))
    gone = len(sealed - set(checks.values())) - len(found)
    if gone > 0:
        told = f"{len(checks) + gone}, as many as were sealed"
        found.append(
            Changed(
                section.charge, section.line, "number of values", str(len(section.values)), told
            )
        )
    return found


def _in_seal(section: Section, text: str) -> list[Changed]:
    """Say where the seal of a section is not what it seals, though the content is whole."""
    expected = "".join(section.checks().values())
    if text == expected:
        return []
    at = next(
        (n for n, (a, b) in enumerate(zip(text, expected, strict=False)) if a != b),
        min(len(text), len(expected)),
    )
    at -= at % _CHECK_CHARS
    place = "charge" if section.line is None else f"lines[{section.line}]"
    piece, wanted = text[at : at + _CHECK_CHARS], expected[at : at + _CHECK_CHARS]
    field = f"seal.charges[{section.charge}].{place}"
    return [Changed(None, None, field, piece or "nothing", wanted or "nothing")]


def _left_over(charges: Sequence[Mapping[str, Any]], written: Mapping[str, Any]) -> list[Changed]:
    """Say when the seal has more charges or lines than the file."""
    entries = written["charges"]
    found = []
    if len(entries) != len(charges):
        found.append(
            Changed(None, None, "number of charges", str(len(charges)), f"{len(entries)} sealed")
        )
    for number, (charge, entry) in enumerate(zip(charges, entries, strict=False)):
        lines, sealed = len(charge.get("lines", [])), len(entry["lines"])
        if lines != sealed:
            found.append(
                Changed(number, None, "number of lines", str(lines), f"{sealed} were sealed")
            )
    unknown = sorted(set(written) - {"sha256", "charges"})
    unknown += [key for entry in entries for key in sorted(set(entry) - {"charge", "lines"})]
    for key in unknown:
        found.append(Changed(None, None, f"seal.{key}", "something", "nothing"))
    return found
