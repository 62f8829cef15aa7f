"""What a verification found, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import Any

from tollmesh_verify.reading import printable, shown

_FINDINGS_SHOWN = 100


class Verdict(StrEnum):
    """How a verification ended."""

    VERIFIED = "verified"
    DIFFERENT = "different"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True)
class Place:
    """Where something stands.

    Attributes:
        charge_id: the charge; "" for the file itself.
        line_id: the line; "" for what is no line's.
        what: the line for people, `sms of shop`.
    """

    charge_id: str = ""
    line_id: str = ""
    what: str = ""

    def __str__(self) -> str:
        if self.line_id:
            return (
                f"charge {shown(self.charge_id)}, line {shown(self.line_id)} ({shown(self.what)})"
            )
        return f"charge {shown(self.charge_id)}" if self.charge_id else "file"


@dataclass(frozen=True)
class Finding:
    """A value that is not what it comes to when it is computed again."""

    place: Place
    field: str
    written: str
    recomputed: str

    def __str__(self) -> str:
        return f"{self.place}: {self.field}: written {self.written}, recomputed {self.recomputed}"


@dataclass(frozen=True)
class Gap:
    """Something that the file does not hold enough of to verify it."""

    place: Place
    what: str

    def __str__(self) -> str:
        return f"{self.place}: {self.what}"


@dataclass
class Report:
    """All that was found.

    Attributes:
        sha256: of the content, as it was computed.
        verified: lines of what holds, for people.
    """

    sha256: str = ""
    charges: int = 0
    lines: int = 0
    values: int = 0
    findings: list[Finding] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    told: list[tuple[Place, str]] = field(default_factory=list)

    @property
    def verdict(self) -> Verdict:
        """DIFFERENT with a finding, INCOMPLETE with a gap, VERIFIED only without both."""
        if self.findings:
            return Verdict.DIFFERENT
        return Verdict.INCOMPLETE if self.gaps else Verdict.VERIFIED

    def lines_of_text(self) -> Iterator[str]:
        """Tell it to people, in lines that hold nothing a terminal would obey."""
        return map(printable, self._lines())

    def _lines(self) -> Iterator[str]:
        wrong = {item.place for item in self.findings}
        unknown = {item.place for item in self.gaps}
        for place, what in self.told:
            state = "verified"
            if place in wrong:
                state = "DIFFERENT"
            elif place in unknown:
                state = "not verified"
            yield f"{place}: {what}: {state}"
        for title, items in (
            ("different", [*map(str, self.findings)]),
            ("cannot be verified", [*map(str, self.gaps)]),
        ):
            for text in items[:_FINDINGS_SHOWN]:
                yield f"{title}: {text}"
            if len(items) > _FINDINGS_SHOWN:
                yield f"{title}: and {len(items) - _FINDINGS_SHOWN} more"
        yield f"sha256 of the content: {self.sha256}"
        yield self._summary()

    def _summary(self) -> str:
        counted = ", ".join(
            (
                _count(self.charges, "charge"),
                _count(self.lines, "line"),
                _count(self.values, "value"),
            )
        )
        if self.verdict is Verdict.VERIFIED:
            return f"verified: {counted}"
        if self.verdict is Verdict.INCOMPLETE:
            return f"not verified: {counted}; nothing differs, but not everything can be recomputed"
        return f"DIFFERENT: {_count(len(self.findings), 'value')} of {counted}"

    def document(self) -> dict[str, Any]:
        """Tell it to programs."""
        return {
            "verdict": self.verdict.value,
            "sha256": self.sha256,
            "charges": self.charges,
            "lines": self.lines,
            "values": self.values,
            "findings": [_flat(item) for item in self.findings],
            "gaps": [_flat(item) for item in self.gaps],
        }


def _flat(item: Finding | Gap) -> dict[str, Any]:
    found = asdict(item)
    place = found.pop("place")
    return {"charge_id": place["charge_id"], "line_id": place["line_id"], **found}


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def as_decimal(number: Fraction) -> str:
    """Write an exact number without an exponent; a fraction that has no last digit as such."""
    places = 0
    rest = number.denominator
    for prime in (2, 5):
        power = 0
        while rest % prime == 0:
            rest //= prime
            power += 1
        places = max(places, power)
    if rest != 1:
        return str(number)
    scaled = abs(number.numerator) * 10**places // number.denominator
    digits = str(scaled).rjust(places + 1, "0")
    text = f"{digits[:-places]}.{digits[-places:]}" if places else digits
    return f"-{text}" if number < 0 else text
