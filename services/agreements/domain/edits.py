"""The edits of agreements, by the names that callers know, and what an agreement is made of."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import ClassVar

from services.runtime.money import Money


class Role(StrEnum):
    """What a party is in an agreement."""

    BUYER = "BUYER"
    SELLER = "SELLER"
    PARTNER = "PARTNER"
    REFERRAL = "REFERRAL"


@dataclass(frozen=True, slots=True)
class RampStep:
    """A quantity from a time on."""

    from_at: datetime
    quantity: Decimal


@dataclass(frozen=True, slots=True)
class Product:
    """Something that is bought under an agreement; `unit_price` is in major units of its currency."""

    product_id: str
    sku: str
    quantity: Decimal
    unit_price: Decimal
    minimum_commitment: Money | None = None
    hosting_fee: Money | None = None
    ramp: tuple[RampStep, ...] = ()

    def quantity_at(self, moment: datetime) -> Decimal:
        """Return the quantity that holds at a time."""
        found = self.quantity
        for step in self.ramp:
            if step.from_at > moment:
                break
            found = step.quantity
        return found


@dataclass(frozen=True, slots=True)
class AutoRenewal:
    """How an agreement renews: by months, with a change of unit prices in percent, unless told `notice_days` before."""

    months: int
    notice_days: int
    price_change_pct: Decimal


@dataclass(frozen=True, slots=True)
class Installment:
    """One payment of a schedule."""

    due_at: datetime
    amount: Money


@dataclass(frozen=True, slots=True)
class Party:
    """Somebody with a part in an agreement; the share is in percent."""

    role: Role
    party_id: str
    share_pct: Decimal


@dataclass(frozen=True, slots=True)
class Create:
    """Begins an agreement, as a draft."""

    name: ClassVar[str] = "create"
    buyer: str
    seller: str
    currency_code: str
    start_at: datetime
    end_at: datetime | None


@dataclass(frozen=True, slots=True)
class AddProduct:
    """Adds a product."""

    name: ClassVar[str] = "add_product"
    product: Product


@dataclass(frozen=True, slots=True)
class RemoveProduct:
    """Takes a product out."""

    name: ClassVar[str] = "remove_product"
    product_id: str


@dataclass(frozen=True, slots=True)
class ChangePrice:
    """Changes a unit price, in major units."""

    name: ClassVar[str] = "change_price"
    product_id: str
    unit_price: Decimal


@dataclass(frozen=True, slots=True)
class ChangeQuantity:
    """Changes a quantity, and ends the ramp."""

    name: ClassVar[str] = "change_quantity"
    product_id: str
    quantity: Decimal


@dataclass(frozen=True, slots=True)
class Activate:
    """Puts a draft in force."""

    name: ClassVar[str] = "activate"


@dataclass(frozen=True, slots=True)
class Suspend:
    """Holds up an agreement that is in force."""

    name: ClassVar[str] = "suspend"
    reason: str


@dataclass(frozen=True, slots=True)
class Resume:
    """Goes on with an agreement that is suspended."""

    name: ClassVar[str] = "resume"


@dataclass(frozen=True, slots=True)
class Terminate:
    """Ends an agreement before its term."""

    name: ClassVar[str] = "terminate"
    reason: str


@dataclass(frozen=True, slots=True)
class Renew:
    """Makes the term longer by months, with a change of unit prices in percent."""

    name: ClassVar[str] = "renew"
    months: int
    price_change_pct: Decimal


@dataclass(frozen=True, slots=True)
class SetAutoRenew:
    """Says whether and how an agreement renews by itself."""

    name: ClassVar[str] = "set_auto_renew"
    auto_renew: AutoRenewal | None


@dataclass(frozen=True, slots=True)
class ExtendTerm:
    """Moves the end of the term to a later time."""

    name: ClassVar[str] = "extend_term"
    end_at: datetime


@dataclass(frozen=True, slots=True)
class SetFinancing:
    """Says how an agreement is paid over time; nothing for no schedule."""

    name: ClassVar[str] = "set_financing"
    installments: tuple[Installment, ...]


@dataclass(frozen=True, slots=True)
class SetDownpayment:
    """Says what is paid ahead."""

    name: ClassVar[str] = "set_downpayment"
    downpayment: Money | None


@dataclass(frozen=True, slots=True)
class AssignParty:
    """Says who has a part."""

    name: ClassVar[str] = "assign_party"
    party: Party


@dataclass(frozen=True, slots=True)
class ChangeTerms:
    """Changes when invoices are to be paid, and the reference."""

    name: ClassVar[str] = "change_terms"
    net_days: int
    reference: str


Edit = (
    Create
    | AddProduct
    | RemoveProduct
    | ChangePrice
    | ChangeQuantity
    | Activate
    | Suspend
    | Resume
    | Terminate
    | Renew
    | SetAutoRenew
    | ExtendTerm
    | SetFinancing
    | SetDownpayment
    | AssignParty
    | ChangeTerms
)
KINDS: dict[str, type[Edit]] = {kind.name: kind for kind in Edit.__args__}


@dataclass(frozen=True, slots=True)
class Entry:
    """An edit as it stands in the log.

    Attributes:
        revision: its number in the log, from 1.
        edit: what it changes.
        effective_at: from when it holds.
        recorded_at: when it was written down; never earlier than that of the entry before.
        principal_id: who wrote it.
    """

    revision: int
    edit: Edit
    effective_at: datetime
    recorded_at: datetime
    principal_id: str = ""

    @property
    def parts(self) -> int:
        """How many values there are to write of it."""
        match self.edit:
            case AddProduct(product):
                return 1 + len(product.ramp)
            case SetFinancing(installments):
                return 1 + len(installments)
        return 1
