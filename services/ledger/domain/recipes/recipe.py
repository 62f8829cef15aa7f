"""A recipe, as it is declared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import IntEnum

from services.ledger.domain.accounts import NO_LIMITS, AccountType, Flags, Limits
from services.ledger.domain.recipes.parameters import Parameter, ParameterType
from services.ledger.domain.transfers import Kind

NO_FLAGS = Flags()


class OnRefusal(IntEnum):
    """What is done when an account refuses a leg; numbers as in payments.ledger.v1.OnRefusal."""

    REFUSE = 1
    SUSPENSE = 2


@dataclass(frozen=True, slots=True)
class AccountTemplate:
    """A template of accounts; places of parameters stand in braces.

    Attributes:
        name: of the template, within the recipe.
        account_id, owner, metadata: templates.
        currency: `{amount.currency}`, or `{currency}` of a parameter that is a currency.
        limits: in minor units.
    """

    name: str
    account_id: str
    currency: str
    type: AccountType
    flags: Flags = NO_FLAGS
    limits: Limits = NO_LIMITS
    owner: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


class ShareKind(IntEnum):
    """How the size of a part is given."""

    PERCENT = 1
    RATE = 2
    AMOUNT = 3
    REST = 4


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an allocation.

    Attributes:
        share: a decimal of percent, or the name of a parameter; empty for the rest.
    """

    name: str
    kind: ShareKind
    share: str = ""


@dataclass(frozen=True, slots=True)
class Allocation:
    """A split of an amount into parts that sum to it.

    Attributes:
        of: the amount, by its parameter or as `allocation.part`.
        for_each: the list whose groups are each split; empty for none.
        residual_owner: the part that ties go to.
    """

    name: str
    of: str
    parts: tuple[Part, ...]
    residual_owner: str
    for_each: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """An account that an amount is taken from.

    Attributes:
        up_to: the most that is taken; empty for no such cap.
        unbounded: whatever its balance is.
    """

    account: str
    up_to: str = ""
    unbounded: bool = False


@dataclass(frozen=True, slots=True)
class Earlier:
    """A leg of an earlier posting for a reference of the same kind and id.

    Attributes:
        part: template of the part of its reference.
        transfer: template of the id of a transfer that stands for it where it was not posted by a recipe.
    """

    recipe: str
    leg: str
    part: str = ""
    transfer: str = ""


@dataclass(frozen=True, slots=True)
class Leg:
    """A transfer, or one a group.

    Attributes:
        for_each: the list that it is made for each group of; empty for once.
        when, unless: conditions, by the name of a parameter; empty for none.
        debit, credit: templates of accounts, by name.
        debit_from, credit_from: instead of them, accounts that the amount is taken from in their order.
        amount: a parameter, or `allocation.part`; empty for all of a hold that is ended.
        timeout_ms: how long a hold stands; 0 for ever.
        hold: the hold that is posted or voided.
        reverses: the leg whose accounts are taken, the other way round.
        metadata: templates.
    """

    name: str
    for_each: str = ""
    when: str = ""
    unless: str = ""
    debit: str = ""
    credit: str = ""
    debit_from: tuple[Source, ...] = ()
    credit_from: tuple[Source, ...] = ()
    amount: str = ""
    code: int = 0
    kind: Kind = Kind.POSTED
    timeout_ms: int = 0
    multi_capture: bool = False
    hold: Earlier | None = None
    reverses: Earlier | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def earlier(self) -> Earlier | None:
        """The earlier leg that it depends on."""
        return self.hold or self.reverses

    @property
    def sources(self) -> tuple[Source, ...]:
        """The accounts that its amount is taken from in their order, on either side."""
        return self.debit_from or self.credit_from

    @property
    def accounts(self) -> Iterator[str]:
        """The templates that it uses, by name."""
        yield from (name for name in (self.debit, self.credit) if name)
        yield from (source.account for source in self.sources)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a fact of one kind means in the books.

    Attributes:
        version: 0 before it has one.
        reference_kind: of the references that it is posted for; empty for any.
        is_product: every tenant has it.
        created_at: when this version was stored; None for one of the product.
    """

    name: str
    legs: tuple[Leg, ...]
    parameters: tuple[Parameter, ...] = ()
    accounts: tuple[AccountTemplate, ...] = ()
    allocations: tuple[Allocation, ...] = ()
    on_refusal: OnRefusal = OnRefusal.REFUSE
    reference_kind: str = ""
    description: str = ""
    version: int = 0
    is_product: bool = False
    created_at: datetime | None = None

    def has_content_of(self, other: Recipe) -> bool:
        """True when it says the same, whatever version it is."""
        return _content(self) == _content(other)

    def in_scope(self, for_each: str) -> dict[str, Parameter]:
        """Return the parameters that a leg, or an allocation, of each group of a list sees, by name."""
        seen = {parameter.name: parameter for parameter in self.parameters}
        groups = seen.get(for_each)
        if groups is not None and groups.type is ParameterType.LIST:
            seen.update({parameter.name: parameter for parameter in groups.group})
        return seen


def _content(recipe: Recipe) -> Recipe:
    return replace(recipe, version=0, is_product=False, created_at=None)
