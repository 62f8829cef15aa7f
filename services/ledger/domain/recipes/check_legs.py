"""Whether the legs of a recipe are sound: each between accounts of its own currency, with all that its kind needs."""

from __future__ import annotations

from collections.abc import Iterator

from services.ledger.domain.recipes.amounts import AmountKind, amount_kind
from services.ledger.domain.recipes.check_templates import currency_of_account
from services.ledger.domain.recipes.errors import Fault
from services.ledger.domain.recipes.parameters import ParameterType
from services.ledger.domain.recipes.recipe import AccountTemplate, Leg, OnRefusal, Recipe, Source
from services.ledger.domain.recipes.templates import REFERENCE, places
from services.ledger.domain.transfers import Kind

_T = ParameterType


def faults(recipe: Recipe) -> Iterator[Fault]:
    """List what is wrong with the legs."""
    for at, leg in enumerate(recipe.legs):
        yield from _Leg(recipe, leg, f"legs[{at}]").faults()


class _Leg:
    """A leg that is judged."""

    def __init__(self, recipe: Recipe, leg: Leg, place: str) -> None:
        self.recipe, self.leg, self.place = recipe, leg, place
        self.own = {each.name: each for each in recipe.parameters}
        self.scope = recipe.in_scope(leg.for_each)
        self.accounts = {each.name: each for each in recipe.accounts}
        self.suspends = recipe.on_refusal is OnRefusal.SUSPENSE

    def faults(self) -> Iterator[Fault]:
        """List what is wrong with it. What cannot be judged for another fault is left out."""
        leg = self.leg
        yield from self._shape()
        listed = self.own.get(leg.for_each)
        if leg.for_each and (listed is None or listed.type is not _T.LIST):
            # Which parameters it sees nobody can tell.
            yield self._fault("for_each", f"there is no list {leg.for_each!r}")
            yield from self._names()
            return
        for which, name in (("when", leg.when), ("unless", leg.unless)):
            if name and name not in self.scope:
                yield self._fault(which, f"there is no parameter {name!r} here")
        yield from self._names()
        if leg.amount:
            yield from self._amount()
        yield from self._guarded()

    def _shape(self) -> Iterator[Fault]:
        """What its kind needs, and what it has none of."""
        leg = self.leg
        if leg.kind.ends_hold:
            yield from self._ends_hold()
        else:
            if leg.hold is not None:
                yield self._fault("hold", f"is given for a leg of {leg.kind.name}, which ends none")
            yield from self._sides()
            if not leg.amount:
                yield self._fault("amount", "is required: what moves")
        if leg.kind is not Kind.PENDING and (leg.timeout_ms or leg.multi_capture):
            yield self._fault("kind", "only a hold has a timeout, or is posted in several parts")

    def _amount(self) -> Iterator[Fault]:
        """What moves, and what must be of its currency; of a bad one, what does not hang on it."""
        kind = amount_kind(self.recipe, self.leg.amount, self.leg.for_each)
        if isinstance(kind, str):
            yield self._fault("amount", kind)
        elif self.leg.kind.ends_hold and kind.is_signed:
            yield self._fault("amount", "may be negative, which no hold is ended by")
        known = None if isinstance(kind, str) else kind
        if not self.leg.kind.ends_hold:
            yield from self._currencies(known)
            yield from self._sources(known)

    def _fault(self, field: str, description: str) -> Fault:
        return Fault(f"{self.place}.{field}", description)

    def _ends_hold(self) -> Iterator[Fault]:
        leg = self.leg
        if leg.hold is None:
            yield self._fault("hold", f"is required of a leg of {leg.kind.name}")
        if self.suspends:
            yield self._fault(
                "kind", "can be refused by the hold, and what has happened cannot be refused"
            )
        if any(leg.accounts) or leg.reverses:
            yield self._fault("hold", "gives the accounts: the leg has none of its own")

    def _sides(self) -> Iterator[Fault]:
        leg = self.leg
        has_debit, has_credit = (
            bool(leg.debit or leg.debit_from),
            bool(leg.credit or leg.credit_from),
        )
        if leg.debit and leg.debit_from:
            yield self._fault("debit_from", "is given beside debit")
        if leg.credit and leg.credit_from:
            yield self._fault("credit_from", "is given beside credit")
        if leg.debit_from and leg.credit_from:
            yield self._fault("credit_from", "an amount is taken from sources on one side only")
        if leg.sources and leg.reverses:
            yield self._fault("reverses", "a leg that reverses another has no sources")
        if leg.reverses and not self.suspends and not (has_debit or has_credit):
            return
        for field, has in (("debit", has_debit), ("credit", has_credit)):
            if not has:
                yield self._fault(field, "is required: an account")
        if leg.debit and leg.debit == leg.credit:
            yield self._fault("credit", "must be another account than the debited one")

    def _named(self) -> Iterator[tuple[str, str]]:
        leg = self.leg
        yield from (("debit", leg.debit), ("credit", leg.credit))
        yield from (("debit_from", source.account) for source in leg.debit_from)
        yield from (("credit_from", source.account) for source in leg.credit_from)

    def _names(self) -> Iterator[Fault]:
        """Accounts that there are not, or that stand in it twice."""
        if self.leg.kind.ends_hold:
            return
        for field, name in self._named():
            if name and name not in self.accounts:
                yield self._fault(field, f"there is no account {name!r}")
        names = [source.account for source in self.leg.sources]
        if len(set(names)) < len(names) or {self.leg.debit, self.leg.credit} & set(names):
            yield self._fault(self._side_of_sources, "an account stands twice in the leg")

    @property
    def _side_of_sources(self) -> str:
        return "debit_from" if self.leg.debit_from else "credit_from"

    def _currencies(self, kind: AmountKind | None) -> Iterator[Fault]:
        for field, name in self._named():
            account = self.accounts.get(name)
            if account is not None:
                yield from self._account(field, account, kind)

    def _account(
        self, field: str, account: AccountTemplate, kind: AmountKind | None
    ) -> Iterator[Fault]:
        unseen = sorted(
            {
                place.name
                for template in _templates(account)
                for place in places(template)
                if place.name != REFERENCE and place.name not in self.scope
            }
        )
        if unseen:
            yield self._fault(
                field,
                f"account {account.name!r} needs {', '.join(unseen)}, which the leg does not see",
            )
        elif kind and currency_of_account(account, self.scope) != kind.currency:
            yield self._fault(
                field,
                f"the currency of account {account.name!r} can differ from that of the amount: {account.currency}"
                f" beside {{{kind.currency}.currency}}",
            )

    def _sources(self, kind: AmountKind | None) -> Iterator[Fault]:
        sources, field = self.leg.sources, self._side_of_sources
        if sources and kind and kind.is_signed:
            yield self._fault("amount", "may be negative, and cannot be taken from sources then")
        for at, source in enumerate(sources):
            if source.unbounded and not source.up_to and at < len(sources) - 1:
                yield self._fault(
                    f"{field}[{at}]", "takes all: no source behind it is ever reached"
                )
            if source.up_to:
                yield from self._cap(f"{field}[{at}].up_to", source, kind)
        if sources and self.suspends and (not sources[-1].unbounded or sources[-1].up_to):
            yield self._fault(
                field, "the last source must be unbounded: what has happened cannot be refused"
            )

    def _cap(self, field: str, source: Source, kind: AmountKind | None) -> Iterator[Fault]:
        cap = amount_kind(self.recipe, source.up_to, self.leg.for_each)
        if isinstance(cap, str):
            yield self._fault(field, cap)
            return
        if kind and cap.currency != kind.currency:
            yield self._fault(field, "its currency can differ from that of the amount")
        if cap.is_signed:
            yield self._fault(field, "may be negative, which no cap is")
        if self.scope[cap.root].optional:
            yield self._fault(field, f"{cap.root!r} may be missing: a cap needs a size")

    def _guarded(self) -> Iterator[Fault]:
        """What may be missing must not be needed: the leg is made only when it is there."""
        guards = {self.leg.when}
        if self.leg.amount:
            kind = amount_kind(self.recipe, self.leg.amount, self.leg.for_each)
            guards.add("" if isinstance(kind, str) else kind.root)
        for needed in sorted(set(self._needed()) - guards):
            if needed in self.scope and self.scope[needed].optional:
                yield self._fault(
                    "when", f"must name {needed!r}, which may be missing and which the leg needs"
                )

    def _needed(self) -> Iterator[str]:
        for name in self.leg.accounts:
            if name in self.accounts:
                for template in _templates(self.accounts[name]):
                    yield from (place.name for place in places(template))
        if self.leg.earlier is not None:
            yield from (place.name for place in places(self.leg.earlier.part))


def _templates(account: AccountTemplate) -> Iterator[str]:
    yield from (account.account_id, account.currency, account.owner)
