"""Templates: texts with parameters in braces, for the names of accounts, their owners and metadata."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache

from services.ledger.domain.recipes.parameters import (
    NAME,
    Parameter,
    ParameterType,
    Value,
    Values,
    currency_of,
)
from services.ledger.domain.transfers import Reference
from services.runtime.errors import InvalidField
from services.runtime.ids import derived_uuid
from services.runtime.money import Money, format_decimal, format_money

REFERENCE = "reference"
REFERENCE_PARTS = ("kind", "id", "part")
CURRENCY = "currency"
METADATA_CHARS_MAX = 512

_PLACE = re.compile(r"\{([a-z][a-z0-9_]{0,63})(?:\.([a-z]{1,16}))?\}")


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a template: a parameter, and what of it, e.g. `currency`; empty for itself."""

    name: str
    of: str = ""

    def __str__(self) -> str:
        return f"{{{self.name}.{self.of}}}" if self.of else f"{{{self.name}}}"


@lru_cache(maxsize=4096)
def parts(template: str) -> tuple[str | Place, ...]:
    """Cut a template into its texts and places. Braces that make no place stay in the texts."""
    found: list[str | Place] = []
    at = 0
    for match in _PLACE.finditer(template):
        if match.start() > at:
            found.append(template[at : match.start()])
        found.append(Place(match[1], match[2] or ""))
        at = match.end()
    return (*found, template[at:]) if at < len(template) else tuple(found)


def places(template: str) -> tuple[Place, ...]:
    """Return the places of a template."""
    return tuple(part for part in parts(template) if isinstance(part, Place))


def texts(template: str) -> str:
    """Return what stands between the places."""
    return "".join(part for part in parts(template) if isinstance(part, str))


@dataclass(frozen=True, slots=True)
class Scope:
    """What the places of a template stand for.

    Attributes:
        reference: of the posting.
        parameters: those of the recipe and of the group, by name.
        values: those of the recipe.
        group: those of the group; empty outside of one.
        cuts: metadata that is too long is cut, as earlier releases did, instead of refused.
    """

    reference: Reference
    parameters: Mapping[str, Parameter]
    values: Values
    group: Values = field(default_factory=dict)
    cuts: bool = False

    def value(self, name: str) -> Value | None:
        """Return the value of a parameter, of the group first; None where it is not given."""
        found = self.group.get(name)
        return self.values.get(name) if found is None else found

    def in_name(self, template: str) -> str:
        """Fill a template of the name of an account, or of an owner."""
        return "".join(
            part if isinstance(part, str) else self._named(part) for part in parts(template)
        )

    def in_text(self, template: str) -> str | None:
        """Fill a template of metadata; None where a parameter of it is not given."""
        filled = []
        for part in parts(template):
            text = part if isinstance(part, str) else self._written(part)
            if text is None:
                return None
            filled.append(text)
        return "".join(filled)

    def metadata(self, templates: Mapping[str, str]) -> dict[str, str]:
        """Fill metadata; an entry with a parameter that is not given is left out.

        Raises:
            InvalidField: parameters make an entry longer than metadata is.
        """
        filled = {name: self.in_text(template) for name, template in templates.items()}
        found = {name: text for name, text in filled.items() if text is not None}
        for name, text in found.items():
            if len(text) > METADATA_CHARS_MAX and not self.cuts:
                raise self._too_long(name, templates[name], text)
        return {name: text[:METADATA_CHARS_MAX] for name, text in found.items()}

    def _too_long(self, name: str, template: str, text: str) -> InvalidField:
        longest = max(places(template), key=lambda place: len(self._written(place) or ""))
        return InvalidField.one(
            f"parameters.{longest.name}",
            f"makes metadata {name!r} {len(text)} characters long; {METADATA_CHARS_MAX} is the limit",
        )

    def _named(self, place: Place) -> str:
        text = self._written(place)
        if text is None:
            raise InvalidField.one(f"parameters.{place.name}", "is required for this posting")
        known = self.parameters.get(place.name)
        is_foreign = place.name == REFERENCE or (
            known is not None and known.type is ParameterType.PARTY
        )
        return named(text) if is_foreign else text

    def _written(self, place: Place) -> str | None:
        if place.name == REFERENCE:
            return str(getattr(self.reference, place.of))
        value = self.value(place.name)
        if value is None:
            return None
        return currency_of(value) if place.of == CURRENCY else _text(value)


def named(outside: str) -> str:
    """Name an account's party: its id, or one derived from it when the id holds what account names may not.

    What has happened must be booked, whatever those who took part are called outside.
    """
    return outside if NAME.fullmatch(outside) else f"other-{derived_uuid('party', outside)}"


def _text(value: Value) -> str:
    if isinstance(value, Money):
        return f"{format_money(value)} {value.currency_code}"
    if isinstance(value, bool):
        return "true" if value else "false"
    return format_decimal(value) if isinstance(value, Decimal) else str(value)
