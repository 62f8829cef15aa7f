"""An agreement is the fold of its log: pure, so that the same log says the same at any time.

Time works too. When the term of an agreement in force is over, it renews by itself if that was agreed, or it expires.
Both follow from the log and the time that is asked for; nothing has to run for it.
"""

from __future__ import annotations

from bisect import bisect_right
from calendar import monthrange
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from services.agreements.domain.edits import (
    Activate,
    AddProduct,
    AssignParty,
    AutoRenewal,
    ChangePrice,
    ChangeQuantity,
    ChangeTerms,
    Create,
    Edit,
    Entry,
    ExtendTerm,
    Installment,
    Party,
    Product,
    RemoveProduct,
    Renew,
    Resume,
    Role,
    SetAutoRenew,
    SetDownpayment,
    SetFinancing,
    Suspend,
    Terminate,
)
from services.agreements.domain.errors import EditRefused, HistoryConflict, StatusConflict
from services.agreements.domain.statuses import (
    BILLING,
    OPEN,
    SERVICE,
    TRANSITIONS,
    BillingStatus,
    Move,
    ServiceStatus,
    Status,
)
from services.runtime.errors import CurrencyMismatch, DomainError
from services.runtime.money import CONTEXT, Money, format_decimal

PRODUCTS_MAX = 100
PARTIES_MAX = 50
# How often an agreement renews by itself at most, so that a time far ahead is soon reached; then it expires.
RENEWALS_MAX = 100
_WHOLE = Decimal(100)
_PRICE_PLACES = Decimal("1e-18")
# Digits before the point of a price, by the pattern of the wire.
_PRICE_BELOW = Decimal(10) ** 20
_YEAR_MAX = 9999
_MOVES: dict[type[Edit], Move] = {
    Activate: Move.ACTIVATE,
    Suspend: Move.SUSPEND,
    Resume: Move.RESUME,
    Terminate: Move.TERMINATE,
}


@dataclass(frozen=True, slots=True)
class Agreement:
    """A contract at one time, by what was known at another.

    Attributes:
        agreement_id: its id.
        revision: number of the latest edit that was known, whether it held or not.
        end_at: the moment behind the last of its term; None for a term without an end.
        products: by product_id.
        parties: partners and referrers, in the order in which they came.
        effective_at: the time of which this is true.
        recorded_at: when the latest known edit was written down.
    """

    agreement_id: str
    revision: int
    buyer: str
    seller: str
    currency_code: str
    start_at: datetime
    end_at: datetime | None
    products: tuple[Product, ...]
    auto_renew: AutoRenewal | None
    installments: tuple[Installment, ...]
    downpayment: Money | None
    parties: tuple[Party, ...]
    status: Status
    service_status: ServiceStatus
    billing_status: BillingStatus
    net_days: int
    reference: str
    effective_at: datetime
    recorded_at: datetime

    @property
    def parts(self) -> int:
        """How many values there are to write of it."""
        ramps = sum(1 + len(product.ramp) for product in self.products)
        return ramps + len(self.installments) + len(self.parties)


class State:
    """An agreement while its log is folded: the one thing here that changes."""

    __slots__ = (
        "_anchor_end_at",
        "_renewals",
        "_renewed_months",
        "agreement_id",
        "auto_renew",
        "billing_status",
        "buyer",
        "currency_code",
        "downpayment",
        "end_at",
        "installments",
        "net_days",
        "parties",
        "products",
        "reference",
        "seller",
        "service_status",
        "start_at",
        "status",
    )

    def __init__(self, agreement_id: str, created: Create) -> None:
        self.agreement_id = agreement_id
        self.buyer, self.seller = created.buyer, created.seller
        self.currency_code = created.currency_code
        self.start_at, self.end_at = created.start_at, created.end_at
        # Renewals count from the end that was agreed, so that the 31st comes back after a short month.
        self._anchor_end_at, self._renewed_months = created.end_at, 0
        self._renewals = 0
        self.products: dict[str, Product] = {}
        self.parties: dict[tuple[Role, str], Party] = {}
        self.auto_renew: AutoRenewal | None = None
        self.installments: tuple[Installment, ...] = ()
        self.downpayment: Money | None = None
        self.status = Status.DRAFT
        self.service_status = ServiceStatus.PENDING
        self.billing_status = BillingStatus.NONE
        self.net_days, self.reference = 0, ""

    def pass_to(self, moment: datetime) -> None:
        """Let time pass: terms that are over renew, or end the agreement."""
        while (
            self.end_at is not None
            and self.end_at <= moment
            and (self.status is Status.ACTIVE or self.status is Status.SUSPENDED)
        ):
            renewal = self.auto_renew
            if (
                renewal is None
                or self._renewals >= RENEWALS_MAX
                or not self._lengthened(renewal.months, renewal.price_change_pct)
            ):
                self._move(Move.EXPIRE)
            else:
                self._renewals += 1

    def apply(self, edit: Edit, moment: datetime) -> None:
        """Apply an edit that holds from a moment.

        Raises:
            StatusConflict: the status does not allow it.
            EditRefused: the agreement contradicts it.
            CurrencyMismatch: an amount of it is in another currency than the agreement.
        """
        self.pass_to(moment)
        if self.status not in OPEN:
            raise self._conflict(edit)
        move = _MOVES.get(type(edit))
        if move is None:
            _CHANGES[type(edit)](self, edit, moment)
            return
        if (self.status, move) not in TRANSITIONS:
            raise self._conflict(edit)
        if move is Move.ACTIVATE:
            if not self.products:
                raise self._refused(edit, "it has no product: add one before it is activated")
            if self.end_at is not None and self.end_at <= moment:
                raise self._refused(edit, "its term is over: extend it before it is activated")
        self._move(move)

    def frozen(self, revision: int, effective_at: datetime, recorded_at: datetime) -> Agreement:
        """Return the agreement at a time, to which time has passed."""
        return Agreement(
            agreement_id=self.agreement_id,
            revision=revision,
            buyer=self.buyer,
            seller=self.seller,
            currency_code=self.currency_code,
            start_at=self.start_at,
            end_at=self.end_at,
            products=tuple(self.products[key] for key in sorted(self.products)),
            auto_renew=self.auto_renew,
            installments=self.installments,
            downpayment=self.downpayment,
            parties=tuple(self.parties.values()),
            status=self.status,
            service_status=self.service_status,
            billing_status=self.billing_status,
            net_days=self.net_days,
            reference=self.reference,
            effective_at=effective_at,
            recorded_at=recorded_at,
        )

    def _move(self, move: Move) -> None:
        self.status = TRANSITIONS[self.status, move]
        self.service_status = SERVICE.get(move, self.service_status)
        self.billing_status = BILLING.get(move, self.billing_status)

    def _price(self, edit: ChangePrice, _moment: datetime) -> None:
        product = self._product(edit, edit.product_id)
        self.products[edit.product_id] = replace(product, unit_price=edit.unit_price)

    def _quantity(self, edit: ChangeQuantity, _moment: datetime) -> None:
        product = self._product(edit, edit.product_id)
        self.products[edit.product_id] = replace(product, quantity=edit.quantity, ramp=())

    def _remove(self, edit: RemoveProduct, _moment: datetime) -> None:
        self._product(edit, edit.product_id)
        if len(self.products) == 1 and self.status is not Status.DRAFT:
            raise self._refused(edit, "it is the last product: terminate the agreement")
        del self.products[edit.product_id]

    def _renew(self, edit: Renew, _moment: datetime) -> None:
        if self.status is Status.DRAFT:
            raise self._conflict(edit)
        if self.end_at is None:
            raise self._refused(edit, "its term has no end")
        if not self._lengthened(edit.months, edit.price_change_pct):
            raise self._refused(edit, "its term or a price would be out of range")

    def _extend(self, edit: ExtendTerm, _moment: datetime) -> None:
        if self.end_at is None or edit.end_at <= self.end_at:
            raise self._refused(edit, "the new end must be later than the end that it has")
        self.end_at = self._anchor_end_at = edit.end_at
        self._renewed_months = 0

    def _finance(self, edit: SetFinancing, _moment: datetime) -> None:
        for installment in edit.installments:
            self._in_currency(installment.amount)
        self.installments = edit.installments

    def _pay_down(self, edit: SetDownpayment, _moment: datetime) -> None:
        self._in_currency(edit.downpayment)
        self.downpayment = edit.downpayment

    def _change_terms(self, edit: ChangeTerms, _moment: datetime) -> None:
        self.net_days, self.reference = edit.net_days, edit.reference

    def _begin_again(self, edit: Create, _moment: datetime) -> None:
        raise self._refused(edit, "an agreement begins once")

    def _add(self, edit: AddProduct, _moment: datetime) -> None:
        product = edit.product
        if product.product_id in self.products:
            raise self._refused(edit, f"it has the product {product.product_id} already")
        if len(self.products) >= PRODUCTS_MAX:
            raise self._refused(edit, f"it has {PRODUCTS_MAX} products, which is the most")
        self._in_currency(product.minimum_commitment)
        self._in_currency(product.hosting_fee)
        self.products[product.product_id] = product

    def _set_auto_renew(self, edit: SetAutoRenew, moment: datetime) -> None:
        if self.end_at is None:
            raise self._refused(edit, "its term has no end")
        known = self.auto_renew
        if (
            known is not None
            and self.status is not Status.DRAFT
            and self.end_at - moment < timedelta(days=known.notice_days)
        ):
            raise self._refused(
                edit, f"the term ends within the notice period of {known.notice_days} days"
            )
        self.auto_renew = edit.auto_renew

    def _assign(self, edit: AssignParty, _moment: datetime) -> None:
        party = edit.party
        if party.role is Role.BUYER or party.role is Role.SELLER:
            buyer = party.party_id if party.role is Role.BUYER else self.buyer
            seller = party.party_id if party.role is Role.SELLER else self.seller
            if buyer == seller:
                raise self._refused(edit, "nobody sells to himself")
            self.buyer, self.seller = buyer, seller
            return
        key = (party.role, party.party_id)
        others = {each: other for each, other in self.parties.items() if each != key}
        if party.share_pct:
            if len(others) >= PARTIES_MAX:
                raise self._refused(edit, f"it has {PARTIES_MAX} parties, which is the most")
            taken = sum((other.share_pct for other in others.values()), Decimal())
            if taken + party.share_pct > _WHOLE:
                rest = format_decimal(_WHOLE - taken)
                raise self._refused(edit, f"the others leave {rest} percent")
            others[key] = party
        elif key not in self.parties:
            raise self._refused(edit, f"{party.party_id} has no share that could be taken away")
        self.parties = others

    def _lengthened(self, months: int, pct: Decimal) -> bool:
        """Make the term longer and change prices; False, and nothing is changed, when either leaves its range."""
        anchor = self._anchor_end_at
        assert anchor is not None, "only a term with an end is made longer"
        end_at = months_after(anchor, self._renewed_months + months)
        if end_at is None:
            return False
        if pct:
            products = {}
            for key, product in self.products.items():
                price = CONTEXT.multiply(product.unit_price, 1 + pct / 100)
                price = price.quantize(_PRICE_PLACES, context=CONTEXT)
                if price >= _PRICE_BELOW:
                    return False
                products[key] = replace(product, unit_price=price)
            self.products = products
        self.end_at, self._renewed_months = end_at, self._renewed_months + months
        return True

    def _product(self, edit: Edit, product_id: str) -> Product:
        product = self.products.get(product_id)
        if product is None:
            raise self._refused(edit, f"it has no product {product_id}")
        return product

    def _in_currency(self, amount: Money | None) -> None:
        if amount is not None and amount.currency_code != self.currency_code:
            raise CurrencyMismatch(
                f"the agreement is in {self.currency_code}, and an amount of the edit in {amount.currency_code}",
                left=self.currency_code,
                right=amount.currency_code,
            )

    def _conflict(self, edit: Edit) -> StatusConflict:
        return StatusConflict(
            f"cannot {edit.name} agreement {self.agreement_id}, which is {self.status} at that time",
            agreement_id=self.agreement_id,
            status=self.status.value,
            edit=edit.name,
        )

    def _refused(self, edit: Edit, why: str) -> EditRefused:
        return EditRefused(
            f"cannot {edit.name} in agreement {self.agreement_id}: {why}",
            agreement_id=self.agreement_id,
            edit=edit.name,
        )


_CHANGES: dict[type[Edit], Callable[[State, Any, datetime], None]] = {
    Create: State._begin_again,
    AddProduct: State._add,
    RemoveProduct: State._remove,
    ChangePrice: State._price,
    ChangeQuantity: State._quantity,
    Renew: State._renew,
    SetAutoRenew: State._set_auto_renew,
    ExtendTerm: State._extend,
    SetFinancing: State._finance,
    SetDownpayment: State._pay_down,
    AssignParty: State._assign,
    ChangeTerms: State._change_terms,
}


@dataclass(frozen=True, slots=True)
class Step:
    """What one new entry did, as it was before and behind it."""

    entry: Entry
    before: Agreement | None
    after: Agreement


def months_after(moment: datetime, months: int) -> datetime | None:
    """Return the same day and time of a later month, or its last day; None behind the year 9999."""
    count = moment.year * 12 + moment.month - 1 + months
    year, month = count // 12, count % 12 + 1
    if year > _YEAR_MAX:
        return None
    return moment.replace(year=year, month=month, day=min(moment.day, monthrange(year, month)[1]))


def in_effect(entries: Iterable[Entry]) -> list[Entry]:
    """Return entries in the order in which they hold; of one time, in that in which they were written."""
    return sorted(entries, key=lambda entry: (entry.effective_at, entry.revision))


def as_of(
    agreement_id: str, log: Sequence[Entry], effective_at: datetime, recorded_at: datetime | None
) -> Agreement | None:
    """Return an agreement at one time, by what was recorded until another; None when there was none.

    Args:
        agreement_id: whose log it is.
        log: its entries, by revision.
        effective_at: the time that is asked about.
        recorded_at: None for all that is recorded.
    """
    if recorded_at is not None:
        log = log[: bisect_right(log, recorded_at, key=lambda entry: entry.recorded_at)]
    if not log:
        return None
    state: State | None = None
    for entry in in_effect(log):
        if entry.effective_at > effective_at:
            break
        state = _next(agreement_id, state, entry)
    if state is None:
        return None
    state.pass_to(effective_at)
    return state.frozen(log[-1].revision, effective_at, log[-1].recorded_at)


def extended(agreement_id: str, log: Sequence[Entry], added: Sequence[Entry]) -> list[Step]:
    """Return what entries do that are added to a log; the whole log must still hold with them.

    Raises:
        StatusConflict, EditRefused, CurrencyMismatch: an added entry is not possible at its time.
        HistoryConflict: one of the log that holds later no longer is.
    """
    first_new = added[0].revision
    # The beginning of an agreement is the first of its log: an earlier time has nothing to be edited.
    if log and added[0].effective_at < log[0].effective_at:
        raise EditRefused(
            f"agreement {agreement_id} begins later than this edit would hold: choose a later time",
            agreement_id=agreement_id,
            edit=added[0].edit.name,
        )
    return list(_steps(agreement_id, in_effect([*log, *added]), first_new))


def _steps(agreement_id: str, entries: Sequence[Entry], first_new: int) -> Iterator[Step]:
    state: State | None = None
    for entry in entries:
        if entry.revision < first_new:
            try:
                state = _next(agreement_id, state, entry)
            except DomainError as error:
                raise HistoryConflict(
                    f"edit {entry.revision} of agreement {agreement_id} could no longer be made: {error.message}",
                    agreement_id=agreement_id,
                    conflicting_revision=entry.revision,
                    edit=entry.edit.name,
                ) from error
            continue
        before = None
        if state is not None:
            state.pass_to(entry.effective_at)
            before = state.frozen(entry.revision - 1, entry.effective_at, entry.recorded_at)
        state = _next(agreement_id, state, entry)
        yield Step(
            entry, before, state.frozen(entry.revision, entry.effective_at, entry.recorded_at)
        )


def _next(agreement_id: str, state: State | None, entry: Entry) -> State:
    if state is None:
        assert isinstance(entry.edit, Create), "a log begins with create"
        return State(agreement_id, entry.edit)
    state.apply(entry.edit, entry.effective_at)
    return state
