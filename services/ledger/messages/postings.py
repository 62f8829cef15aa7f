"""Postings of recipes, as messages and back."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Protocol

from payments.ledger.v1 import ledger_pb2 as pb
from payments.ledger.v1 import ledger_service_pb2 as service_pb
from payments.ledger.v1 import posting_pb2

from services.ledger.domain.recipes.evaluation import Fact
from services.ledger.domain.recipes.parameters import Value, Values
from services.ledger.domain.recipes.postings import LegView, PostingView
from services.ledger.messages.books import recorded_transfer, reference, reference_of
from services.runtime.edge import validation
from services.runtime.edge import values as edge
from services.runtime.errors import DomainError, InvalidField
from services.runtime.money import Money, format_decimal, parse_decimal
from services.runtime.turns import aside


class _Fact(Protocol):
    """A message that carries a fact: PostRecipeRequest or RecipePosting."""

    recipe: str
    version: int

    @property
    def parameters(self) -> Mapping[str, posting_pb2.Parameter]: ...
    @property
    def reference(self) -> pb.Reference: ...


# ---- In


def fact_of(item: _Fact) -> Fact:
    """Read a fact. Raises InvalidField, UnknownCurrency."""
    return Fact(
        recipe=item.recipe,
        version=item.version,
        parameters=_values_of(item.parameters, "parameters"),
        reference=reference_of(item.reference),
        effective_at=edge.moment_or_none(item, "effective_at"),
    )


def judged_fact_of(item: service_pb.RecipePosting, unreadable: str) -> Fact | DomainError:
    """Read a fact of a batch, or why it is none.

    `unreadable` says why it could not be read from what its sender wrote; it is empty for one that was.
    """
    if unreadable:
        return InvalidField.one("postings", f"the fact cannot be read: {unreadable}")
    if broken := validation.violations(item):
        return InvalidField.of(broken)
    try:
        return fact_of(item)
    except DomainError as error:
        return error


def _values_of(items: Mapping[str, posting_pb2.Parameter], path: str) -> dict[str, Value]:
    return {name: _value_of(item, f"{path}.{name}") for name, item in items.items()}


def _value_of(item: posting_pb2.Parameter, path: str) -> Value:
    match item.WhichOneof("value"):
        case "text":
            return item.text
        case "amount":
            return edge.money_of(item.amount)
        case "decimal":
            return parse_decimal(item.decimal, path)
        case "flag":
            return item.flag
        case "list":
            return tuple(
                _values_of(group.values, f"{path}[{at}]")
                for at, group in enumerate(item.list.groups)
            )
        case _:
            raise InvalidField.one(path, "has no value")


# ---- Out


def posting(shown: PostingView) -> posting_pb2.Posting:
    """Write a posting."""
    return posting_pb2.Posting(
        posting_id=str(shown.posting_id),
        recipe=shown.recipe,
        version=shown.version,
        reference=reference(shown.reference),
        legs=map(_leg, shown.legs),
        recorded_at=edge.stamp(shown.recorded_at),
        parameters=_values(shown.parameters),
    )


async def posted(shown: PostingView) -> service_pb.PostRecipeResponse:
    """Write a posting that was asked for."""
    return service_pb.PostRecipeResponse(posting=await aside(len(shown.legs), posting, shown))


def result(index: int, outcome: PostingView | DomainError) -> service_pb.PostRecipeResult:
    """Write what became of a fact of a batch."""
    if isinstance(outcome, PostingView):
        return service_pb.PostRecipeResult(index=index, posting=posting(outcome))
    refusal = service_pb.PostingRefusal(
        reason=outcome.reason, message=outcome.message, metadata=outcome.metadata
    )
    return service_pb.PostRecipeResult(index=index, refusal=refusal)


def _leg(shown: LegView) -> posting_pb2.PostingLeg:
    return posting_pb2.PostingLeg(
        leg=shown.leg, group=shown.group, transfer=recorded_transfer(shown.view)
    )


def _values(shown: Values) -> dict[str, posting_pb2.Parameter]:
    return {name: _value(value) for name, value in shown.items()}


def _value(shown: Value) -> posting_pb2.Parameter:
    if isinstance(shown, str):
        return posting_pb2.Parameter(text=shown)
    if isinstance(shown, bool):
        return posting_pb2.Parameter(flag=shown)
    if isinstance(shown, Decimal):
        return posting_pb2.Parameter(decimal=format_decimal(shown))
    if isinstance(shown, Money):
        return posting_pb2.Parameter(amount=edge.money(shown))
    groups = [posting_pb2.ParameterGroup(values=_values(group)) for group in shown]
    return posting_pb2.Parameter(list=posting_pb2.ParameterList(groups=groups))
