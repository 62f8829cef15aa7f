"""Recipes, as messages and back, and as the documents that are stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format
from payments.ledger.v1 import ledger_pb2 as pb
from payments.ledger.v1 import ledger_service_pb2 as service_pb
from payments.ledger.v1 import recipe_pb2 as recipe_pb

from services.ledger.domain.accounts import NO_LIMITS, AccountType, Flags, Limits
from services.ledger.domain.recipes.parameters import Parameter, ParameterType
from services.ledger.domain.recipes.recipe import (
    AccountTemplate,
    Allocation,
    Earlier,
    Leg,
    OnRefusal,
    Part,
    Recipe,
    ShareKind,
    Source,
)
from services.ledger.domain.transfers import Kind
from services.runtime.edge import json_messages, validation
from services.runtime.edge import values as edge
from services.runtime.errors import FieldViolation, InvalidField

_SHARES = {kind.name.lower(): kind for kind in ShareKind}

# ---- In


def recipe_of(item: recipe_pb.Recipe) -> Recipe:
    """Read a recipe, of whatever version the message says."""
    return Recipe(
        name=item.name,
        legs=tuple(map(_leg_of, item.legs)),
        parameters=tuple(map(_parameter_of, item.parameters)),
        accounts=tuple(map(_account_of, item.accounts)),
        allocations=tuple(map(_allocation_of, item.allocations)),
        on_refusal=OnRefusal(item.on_refusal or OnRefusal.REFUSE),
        reference_kind=item.reference_kind,
        description=item.description,
        version=item.version,
        is_product=item.is_product,
    )


def recipe_of_document(document: Any) -> Recipe:
    """Read a recipe from a plain document.

    Raises:
        InvalidField: it is not in the shape of payments.ledger.v1.Recipe, or a field breaks its rule.
    """
    try:
        message = json_messages.parse(document, recipe_pb.Recipe())
    except json_messages.NotThisMessage as error:
        raise InvalidField.one("recipe", str(error)) from error
    if broken := validation.violations(message):
        raise InvalidField.of(broken)
    return recipe_of(message)


def stored_recipe_of(document: Mapping[str, Any]) -> Recipe:
    """Read a recipe from the document that it is stored as."""
    return recipe_of(json_format.ParseDict(dict(document), recipe_pb.Recipe()))


def _parameter_of(item: recipe_pb.RecipeParameter) -> Parameter:
    return Parameter(
        item.name,
        ParameterType(item.type),
        item.optional,
        item.same_currency_as,
        tuple(map(_field_of, item.group)),
        item.description,
    )


def _field_of(item: recipe_pb.RecipeField) -> Parameter:
    return Parameter(
        item.name,
        ParameterType(item.type),
        item.optional,
        item.same_currency_as,
        description=item.description,
    )


def _account_of(item: recipe_pb.RecipeAccount) -> AccountTemplate:
    floor = item.floor_minor if item.HasField("floor_minor") else None
    ceiling = item.ceiling_minor if item.HasField("ceiling_minor") else None
    has_limits = floor is not None or ceiling is not None
    return AccountTemplate(
        name=item.name,
        account_id=item.account_id,
        currency=item.currency,
        type=AccountType(item.type),
        flags=Flags(
            item.flags.debits_must_not_exceed_credits,
            item.flags.credits_must_not_exceed_debits,
            item.flags.closed,
        ),
        limits=Limits(floor, ceiling) if has_limits else NO_LIMITS,
        owner=item.owner,
        metadata=dict(item.metadata),
    )


def _allocation_of(item: recipe_pb.RecipeAllocation) -> Allocation:
    return Allocation(
        item.name, item.of, tuple(map(_part_of, item.parts)), item.residual_owner, item.for_each
    )


def _part_of(item: recipe_pb.RecipePart) -> Part:
    kind = _SHARES[item.WhichOneof("share") or "rest"]
    if kind is ShareKind.REST:
        return Part(item.name, kind)
    return Part(item.name, kind, getattr(item, kind.name.lower()))


def _leg_of(item: recipe_pb.RecipeLeg) -> Leg:
    return Leg(
        name=item.name,
        for_each=item.for_each,
        when=item.when,
        unless=item.unless,
        debit=item.debit,
        credit=item.credit,
        debit_from=tuple(map(_source_of, item.debit_from)),
        credit_from=tuple(map(_source_of, item.credit_from)),
        amount=item.amount,
        code=item.code,
        kind=Kind(item.kind or Kind.POSTED),
        timeout_ms=item.timeout.seconds * 1000 + item.timeout.nanos // 1_000_000,
        multi_capture=item.multi_capture,
        hold=_earlier_of(item.hold) if item.HasField("hold") else None,
        reverses=_earlier_of(item.reverses) if item.HasField("reverses") else None,
        metadata=dict(item.metadata),
    )


def _source_of(item: recipe_pb.RecipeSource) -> Source:
    return Source(item.account, item.up_to, item.unbounded)


def _earlier_of(item: recipe_pb.EarlierLeg) -> Earlier:
    return Earlier(item.recipe, item.leg, item.part, item.transfer)


def odd_timeouts(item: recipe_pb.Recipe) -> list[FieldViolation]:
    """List the legs whose holds do not stand for whole milliseconds."""
    return [
        FieldViolation(f"recipe.legs[{at}].timeout", "must be of whole milliseconds")
        for at, leg in enumerate(item.legs)
        if leg.timeout.nanos % 1_000_000
    ]


# ---- Out


def recipe(shown: Recipe) -> recipe_pb.Recipe:
    """Write a recipe."""
    return recipe_pb.Recipe(
        name=shown.name,
        version=shown.version,
        description=shown.description,
        reference_kind=shown.reference_kind,
        parameters=map(_parameter, shown.parameters),
        accounts=map(_account, shown.accounts),
        allocations=map(_allocation, shown.allocations),
        legs=map(_leg, shown.legs),
        on_refusal=int(shown.on_refusal),  # type: ignore[arg-type] # numbers agree, see the tests
        is_product=shown.is_product,
        created_at=edge.stamp_or_none(shown.created_at),
    )


def document(shown: Recipe) -> dict[str, Any]:
    """Write a recipe as the document that is stored: its content, whatever version it is."""
    message = recipe(shown)
    for name in ("version", "is_product", "created_at"):
        message.ClearField(name)
    found: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return found


def put(shown: Recipe) -> service_pb.PutRecipeResponse:
    """Write a recipe that was stored."""
    return service_pb.PutRecipeResponse(recipe=recipe(shown))


def _parameter(shown: Parameter) -> recipe_pb.RecipeParameter:
    return recipe_pb.RecipeParameter(
        name=shown.name,
        type=int(shown.type),  # type: ignore[arg-type] # numbers agree, see the tests
        optional=shown.optional,
        same_currency_as=shown.same_currency_as,
        group=[
            recipe_pb.RecipeField(
                name=item.name,
                type=int(item.type),  # type: ignore[arg-type]
                optional=item.optional,
                same_currency_as=item.same_currency_as,
                description=item.description,
            )
            for item in shown.group
        ],
        description=shown.description,
    )


def _account(shown: AccountTemplate) -> recipe_pb.RecipeAccount:
    message = recipe_pb.RecipeAccount(
        name=shown.name,
        account_id=shown.account_id,
        currency=shown.currency,
        type=int(shown.type),  # type: ignore[arg-type]
        floor_minor=shown.limits.floor_minor,
        ceiling_minor=shown.limits.ceiling_minor,
        owner=shown.owner,
        metadata=shown.metadata,
    )
    if shown.flags != Flags():
        message.flags.CopyFrom(
            pb.AccountFlags(
                debits_must_not_exceed_credits=shown.flags.debits_must_not_exceed_credits,
                credits_must_not_exceed_debits=shown.flags.credits_must_not_exceed_debits,
                closed=shown.flags.closed,
            )
        )
    return message


def _allocation(shown: Allocation) -> recipe_pb.RecipeAllocation:
    return recipe_pb.RecipeAllocation(
        name=shown.name,
        of=shown.of,
        for_each=shown.for_each,
        residual_owner=shown.residual_owner,
        parts=map(_part, shown.parts),
    )


def _part(shown: Part) -> recipe_pb.RecipePart:
    message = recipe_pb.RecipePart(name=shown.name)
    value = True if shown.kind is ShareKind.REST else shown.share
    setattr(message, shown.kind.name.lower(), value)
    return message


def _leg(shown: Leg) -> recipe_pb.RecipeLeg:
    message = recipe_pb.RecipeLeg(
        name=shown.name,
        for_each=shown.for_each,
        when=shown.when,
        unless=shown.unless,
        debit=shown.debit,
        credit=shown.credit,
        debit_from=map(_source, shown.debit_from),
        credit_from=map(_source, shown.credit_from),
        amount=shown.amount,
        code=shown.code,
        kind=int(shown.kind),  # type: ignore[arg-type] # numbers agree, see the tests
        multi_capture=shown.multi_capture,
        hold=_earlier(shown.hold),
        reverses=_earlier(shown.reverses),
        metadata=shown.metadata,
    )
    if shown.timeout_ms:
        message.timeout.FromMilliseconds(shown.timeout_ms)
    return message


def _source(shown: Source) -> recipe_pb.RecipeSource:
    return recipe_pb.RecipeSource(
        account=shown.account, up_to=shown.up_to, unbounded=shown.unbounded
    )


def _earlier(shown: Earlier | None) -> recipe_pb.EarlierLeg | None:
    if shown is None:
        return None
    return recipe_pb.EarlierLeg(
        recipe=shown.recipe, leg=shown.leg, part=shown.part, transfer=shown.transfer
    )
