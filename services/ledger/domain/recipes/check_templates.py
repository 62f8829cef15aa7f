"""Whether the accounts of a recipe, and all its templates, are sound."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from services.ledger.domain.recipes.amounts import currency_key
from services.ledger.domain.recipes.errors import Fault
from services.ledger.domain.recipes.parameters import Parameter, ParameterType
from services.ledger.domain.recipes.recipe import AccountTemplate, OnRefusal, Recipe
from services.ledger.domain.recipes.templates import (
    CURRENCY,
    REFERENCE,
    REFERENCE_PARTS,
    Place,
    places,
    texts,
)

ACCOUNT_CHARS_MAX = 200
OWNER_CHARS_MAX = 64
SUSPENSE = "suspense:"

_T = ParameterType
_NAME_CHARS = 64
_CURRENCY_CHARS = 3
_IN_NAMES = re.compile(r"[A-Za-z0-9._:-]*")


def faults(recipe: Recipe) -> Iterator[Fault]:
    """List what is wrong with the accounts and the metadata, whoever uses them."""
    known = _all_parameters(recipe)
    chars_max = ACCOUNT_CHARS_MAX
    if recipe.on_refusal is OnRefusal.SUSPENSE:
        chars_max -= len(SUSPENSE)
    for at, account in enumerate(recipe.accounts):
        yield from _account(account, f"accounts[{at}]", known, chars_max)
    for at, leg in enumerate(recipe.legs):
        scope = recipe.in_scope(leg.for_each)
        for name, template in leg.metadata.items():
            yield from in_text(template, f"legs[{at}].metadata[{name!r}]", scope)
        for earlier, which in ((leg.hold, "hold"), (leg.reverses, "reverses")):
            if earlier is not None:
                yield from in_text(earlier.part, f"legs[{at}].{which}.part", scope)
                yield from in_text(earlier.transfer, f"legs[{at}].{which}.transfer", scope)


def currency_of_account(account: AccountTemplate, scope: Mapping[str, Parameter]) -> str:
    """Return the key of an account's currency (see `currency_key`); an empty text where none is known."""
    parameter = next((scope.get(place.name) for place in places(account.currency)), None)
    return currency_key(parameter) if parameter else ""


def in_text(template: str, place: str, scope: Mapping[str, Parameter]) -> Iterator[Fault]:
    """List what is wrong with a template of metadata."""
    yield from _braces(template, place)
    for found in places(template):
        parameter = scope.get(found.name)
        if fault := _place_fault(found, parameter):
            yield Fault(place, fault)
        elif parameter is not None and parameter.type is _T.LIST:
            yield Fault(place, f"{found} is a list, which no text holds")


def _all_parameters(recipe: Recipe) -> dict[str, Parameter]:
    """Return all parameters by name, those of groups too: which of them a leg sees is the leg's affair."""
    inner = {item.name: item for parameter in recipe.parameters for item in parameter.group}
    return inner | {parameter.name: parameter for parameter in recipe.parameters}


def _account(
    account: AccountTemplate, place: str, known: Mapping[str, Parameter], chars_max: int
) -> Iterator[Fault]:
    yield from _in_name(account.account_id, f"{place}.account_id", known, chars_max)
    yield from _in_name(account.owner, f"{place}.owner", known, OWNER_CHARS_MAX)
    yield from _currency(account.currency, f"{place}.currency", known)
    for name, template in account.metadata.items():
        yield from in_text(template, f"{place}.metadata[{name!r}]", known)
    flags, limits = account.flags, account.limits
    if flags.debits_must_not_exceed_credits and flags.credits_must_not_exceed_debits:
        yield Fault(f"{place}.flags", "bounds both sides: nothing could be posted to it")
    if flags.closed:
        yield Fault(f"{place}.flags", "a closed account takes no leg")
    if (limits.floor_minor or 0) > 0 or (limits.ceiling_minor or 0) < 0:
        yield Fault(place, "the balance of a new account is zero: it must be within the limits")


def _in_name(
    template: str, place: str, known: Mapping[str, Parameter], chars_max: int
) -> Iterator[Fault]:
    yield from _braces(template, place)
    if not _IN_NAMES.fullmatch(texts(template).translate({ord("{"): None, ord("}"): None})):
        yield Fault(place, "holds other characters than letters, digits, ._:- and places in braces")
    chars = len(texts(template))
    for found in places(template):
        parameter = known.get(found.name)
        if fault := _place_fault(found, parameter) or _name_fault(found, parameter):
            yield Fault(place, fault)
        is_currency = found.of == CURRENCY or (
            parameter is not None and parameter.type is _T.CURRENCY
        )
        chars += _CURRENCY_CHARS if is_currency else _NAME_CHARS
    if chars > chars_max:
        yield Fault(place, f"can become {chars} characters long; {chars_max} is the limit")


def _name_fault(found: Place, parameter: Parameter | None) -> str:
    if found.name == REFERENCE or found.of == CURRENCY or parameter is None:
        return ""
    if parameter.type in (_T.PARTY, _T.NAME, _T.CURRENCY):
        return ""
    return (
        f"{found} is of type {parameter.type.name}, which names of accounts and owners do not hold"
    )


def _place_fault(found: Place, parameter: Parameter | None) -> str:
    """Say what is wrong with a place of any template; an empty text for nothing."""
    if found.name == REFERENCE:
        of = ", ".join(f"{{{REFERENCE}.{part}}}" for part in REFERENCE_PARTS)
        return "" if found.of in REFERENCE_PARTS else f"{found} is none of {of}"
    if parameter is None:
        return f"there is no parameter {found.name!r} here"
    if found.of == CURRENCY:
        return "" if parameter.type.is_amount else f"{found.name!r} is no amount"
    return f"{found} is not known: amounts have a {{….currency}}" if found.of else ""


def _currency(template: str, place: str, known: Mapping[str, Parameter]) -> Iterator[Fault]:
    found = places(template)
    if len(found) != 1 or texts(template):
        yield Fault(place, "must be one parameter in braces, e.g. {amount.currency}")
        return
    parameter = known.get(found[0].name)
    fault = _place_fault(found[0], parameter)
    if not fault and not found[0].of and parameter and parameter.type is not _T.CURRENCY:
        fault = f"{found[0].name!r} is no currency; of an amount it is {{{found[0].name}.currency}}"
    if fault or found[0].name == REFERENCE:
        yield Fault(place, fault or "a reference has no currency")


def _braces(template: str, place: str) -> Iterator[Fault]:
    if re.search(r"[{}]", texts(template)):
        yield Fault(place, "has a brace that belongs to no {parameter}")
