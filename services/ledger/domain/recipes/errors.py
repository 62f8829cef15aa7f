"""What can be wrong with a recipe, and with posting one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self
from uuid import UUID

from services.ledger.domain.transfers import Reference
from services.runtime.errors import Code, DomainError, FieldViolation, UnfitNow

# Results of a refusal that no transfer and no account has.
SOURCES_EXHAUSTED = "SOURCES_EXHAUSTED"
EARLIER_LEG_NOT_FOUND = "EARLIER_LEG_NOT_FOUND"
EARLIER_LEG_OF_SEVERAL = "EARLIER_LEG_OF_SEVERAL"
EXCEEDS_EARLIER_LEG = "EXCEEDS_EARLIER_LEG"
# What to do where no account is at fault.
_ADVICE = {
    EARLIER_LEG_NOT_FOUND: "post what it refers to, then repeat the same call",
    EARLIER_LEG_OF_SEVERAL: (
        "the leg that it refers to took from several sources: end or reverse each of its transfers by itself"
    ),
    EXCEEDS_EARLIER_LEG: (
        "with what was reversed before it would be more than was posted: post what is left of it at most"
    ),
    "ACCOUNTS_MUST_BE_DIFFERENT": "its two accounts are one for these parameters: post it with others",
    "EFFECTIVE_AT_IN_CLOSED_PERIOD": "post it with a later effective_at, or reopen the period first",
}
FAULTS_SHOWN = 50


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a recipe, and where: a path such as `legs[0].amount`."""

    place: str
    description: str


class RecipeInvalid(DomainError):
    """A recipe is not sound."""

    code = Code.INVALID_ARGUMENT
    reason = "RECIPE_INVALID"
    state_dependent = False
    recipe: str
    place: str
    fault: str

    @classmethod
    def of(cls, recipe: str, faults: Sequence[Fault]) -> Self:
        """Name every fault in one error."""
        first = faults[0]
        rest = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        return cls(
            f"recipe {recipe} is not sound: {first.place}: {first.description}{rest}",
            fields=[
                FieldViolation(f"recipe.{fault.place}", fault.description)
                for fault in faults[:FAULTS_SHOWN]
            ],
            recipe=recipe,
            place=first.place,
            fault=first.description,
        )


class RecipeNotFound(DomainError):
    """There is no such recipe, or no such version of it."""

    code = Code.NOT_FOUND
    reason = "RECIPE_NOT_FOUND"
    state_dependent = True
    recipe: str
    version: int

    @classmethod
    def of(cls, recipe: str, version: int) -> Self:
        """Name what there is not; version 0 is the newest."""
        what = f"version {version} of recipe {recipe}" if version else f"recipe {recipe}"
        return cls(
            f"there is no {what}; ListRecipes shows those that there are",
            recipe=recipe,
            version=version,
        )


class PostingExists(DomainError):
    """The recipe was posted for the reference with other content."""

    code = Code.ALREADY_EXISTS
    reason = "POSTING_EXISTS"
    state_dependent = True
    recipe: str
    reference: str
    posting_id: str

    @classmethod
    def of(cls, recipe: str, reference: Reference, posting_id: UUID) -> Self:
        """Name the posting that stands."""
        return cls(
            f"recipe {recipe} was posted for {reference} with other parameters or for another time; what is in the"
            " books stands, and another fact needs another reference",
            recipe=recipe,
            reference=str(reference),
            posting_id=str(posting_id),
        )


class FactUnfit(UnfitNow):
    """A fact is not what its recipe takes as it stands now: a newer version, or an earlier posting, may take it."""


class RecipeRefused(DomainError):
    """An account does not take a leg; nothing was posted."""

    code = Code.FAILED_PRECONDITION
    reason = "RECIPE_REFUSED"
    state_dependent = True
    recipe: str
    leg: str
    account_id: str
    result: str

    @classmethod
    def of(cls, recipe: str, leg: str, account_id: str, result: str) -> Self:
        """Say which leg is refused by which account, and why."""
        at = f" at account {account_id}" if account_id else ""
        return cls(
            f"recipe {recipe} is not posted: its leg {leg} is refused{at} with {result};"
            f" {_ADVICE.get(result, 'put the account right, then repeat the same call')}",
            recipe=recipe,
            leg=leg,
            account_id=account_id,
            result=result,
        )
