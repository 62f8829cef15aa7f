"""Values of a recipe's parameters, as people write them: `amount=12.50 USD`, `lines=@lines.yaml`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from payments.ledger.v1 import posting_pb2, recipe_pb2

from services.cli import amounts
from services.cli.documents import parse_document, read_document
from services.cli.errors import EXIT_USAGE, CliError
from services.cli.pairs import pairs_of

_FLAGS = {"true": True, "false": False}
_AMOUNTS = (recipe_pb2.PARAMETER_TYPE_AMOUNT, recipe_pb2.PARAMETER_TYPE_SIGNED_AMOUNT)

Declared = recipe_pb2.RecipeParameter | recipe_pb2.RecipeField


def parameters(recipe: recipe_pb2.Recipe, pairs: Sequence[str]) -> dict[str, posting_pb2.Parameter]:
    """Read the values of `--param`, each as the recipe declares it.

    Raises:
        CliError: a value is not of its parameter's type, or the recipe takes no such parameter.
    """
    given = pairs_of("--param", pairs, "amount=12.50 USD")
    return _values({item.name: item for item in recipe.parameters}, given, recipe.name)


def _values(
    declared: Mapping[str, Declared], given: Mapping[str, Any], recipe: str
) -> dict[str, posting_pb2.Parameter]:
    found: dict[str, posting_pb2.Parameter] = {}
    for name, value in given.items():
        if name not in declared:
            raise CliError(
                f"recipe {recipe} takes no parameter {name!r}",
                f"it takes {', '.join(sorted(declared)) or 'none'}",
                exit_code=EXIT_USAGE,
            )
        found[name] = _value(declared[name], value, recipe)
    return found


def _value(declared: Declared, value: Any, recipe: str) -> posting_pb2.Parameter:
    if isinstance(declared, recipe_pb2.RecipeParameter) and declared.group:
        return _groups(declared, value, recipe)
    if declared.type == recipe_pb2.PARAMETER_TYPE_FLAG and isinstance(value, bool):
        return posting_pb2.Parameter(flag=value)
    if not isinstance(value, str):
        raise _not_fit(declared, value, "a text, in quotes")
    if declared.type in _AMOUNTS:
        return _amount(declared, value)
    if declared.type == recipe_pb2.PARAMETER_TYPE_RATE:
        return posting_pb2.Parameter(decimal=value)
    if declared.type == recipe_pb2.PARAMETER_TYPE_FLAG:
        if value not in _FLAGS:
            raise _not_fit(declared, value, "true or false")
        return posting_pb2.Parameter(flag=_FLAGS[value])
    return posting_pb2.Parameter(text=value)


def _amount(declared: Declared, value: str) -> posting_pb2.Parameter:
    amount, _, currency = value.partition(" ")
    if not currency:
        raise _not_fit(declared, value, "an amount and its currency, such as 12.50 USD")
    signed = declared.type == recipe_pb2.PARAMETER_TYPE_SIGNED_AMOUNT
    allowed = amounts.Range.ANY if signed else amounts.Range.NOT_NEGATIVE
    parsed = amounts.parse(f"--param {declared.name}", amount, currency, allowed)
    return posting_pb2.Parameter(amount=parsed)


def _groups(declared: recipe_pb2.RecipeParameter, value: Any, recipe: str) -> posting_pb2.Parameter:
    if isinstance(value, str) and value.startswith("@"):
        groups = read_document(value[1:])
    else:
        groups = parse_document(str(value).encode(), f"--param {declared.name}")
    if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
        raise _not_fit(declared, value, "a list of mappings, or @ and a file that holds one")
    fields = {item.name: item for item in declared.group}
    return posting_pb2.Parameter(
        list=posting_pb2.ParameterList(
            groups=[
                posting_pb2.ParameterGroup(values=_values(fields, group, recipe))
                for group in groups
            ]
        )
    )


def _not_fit(declared: Declared, value: Any, wanted: str) -> CliError:
    return CliError(
        f"--param {declared.name}={str(value)[:100]} must be {wanted}", exit_code=EXIT_USAGE
    )
