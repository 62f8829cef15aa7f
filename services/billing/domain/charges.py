"""Charges: frozen lines of rated usage, each with the partner's share split off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import IntEnum

from services.billing.domain.frozen import FrozenTransfer
from services.billing.domain.taxes import Tax, TaxTotal, included, on_top, totals
from services.billing.domain.transfers import LedgerTransfer, Posting
from services.runtime.errors import Code, DomainError
from services.runtime.ids import derived_id
from services.runtime.money import Money, share

# A charge is one message and one posting. Clients take 4 MiB a message unless told otherwise; a posting makes 8,190
# transfers at most: two for a line, and one for each of its taxes.
LINES_MAX = 2000
POSTINGS_MAX = 8190
PROOF_BYTES_MAX = 1_500_000


class ChargeStatus(IntEnum):
    """How far a charge has come; numbers as in payments.billing.v1.ChargeStatus."""

    PENDING = 1
    SETTLED = 2
    REVERSED = 3


class ChargeKind(IntEnum):
    """What a charge is for; numbers as in payments.billing.v1.ChargeKind."""

    USAGE = 1
    ADJUSTMENT = 2
    REVERSAL = 3


class ChargeOverlaps(DomainError):
    """A charge of the organisation covers part of the period already."""

    code = Code.FAILED_PRECONDITION
    reason = "CHARGE_OVERLAPS"
    state_dependent = True
    charge_id: str
    org_id: str


class PeriodNotEnded(DomainError):
    """The period to charge has not ended yet."""

    code = Code.FAILED_PRECONDITION
    reason = "PERIOD_NOT_ENDED"
    state_dependent = True
    org_id: str
    start_at: str
    end_at: str
    now: str


class ChargeTooLarge(DomainError):
    """More lines, or taxes on them, than one charge may have."""

    code = Code.FAILED_PRECONDITION
    reason = "CHARGE_TOO_LARGE"
    state_dependent = True
    lines: int
    lines_max: int
    proof_bytes: int
    proof_bytes_max: int
    taxes: int | None = None
    postings_max: int | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open stretch of time."""

    start_at: datetime
    end_at: datetime


@dataclass(frozen=True, slots=True)
class RatedLine:
    """What the usage of one SKU in one project costs.

    Attributes:
        partner_pct: per cent of the amount; None when nobody earns.
        proof: what led to the amount, as pricing wrote it. It is kept and shown, never read here.
        dispute_id: under which the partner's share is held; "" when it is the partner's.
        earlier_proofs: of a line that comes to several parts of the period, the proofs of the parts before that of
            `proof`. They are stored and read as part of it, so a line that was read has none.
        taxes: on it, in the order in which they were computed.
    """

    sku: str
    project_id: str
    quantity: Decimal
    exact_amount: Decimal
    amount: Money
    partner_id: str
    partner_pct: Decimal | None
    proof: bytes
    dispute_id: str = ""
    earlier_proofs: tuple[bytes, ...] = ()
    taxes: tuple[Tax, ...] = ()

    @property
    def without_tax(self) -> Money:
        """The amount without the taxes that it holds."""
        return self.amount - Money(self.amount.currency_code, included(self.taxes))

    @property
    def with_tax(self) -> Money:
        """The amount with all taxes: what the organisation owes."""
        return self.amount + Money(self.amount.currency_code, on_top(self.taxes))


@dataclass(frozen=True, slots=True)
class Rating:
    """The rated usage of an organisation in a period.

    Attributes:
        usage_ordinal: up to which it holds what was metered; None when metering did not tell.
        carried_skus: what was read as levels, used or not.
    """

    lines: Sequence[RatedLine]
    currency_code: str
    plan_id: str
    plan_version: int
    usage_snapshot: str
    usage_ordinal: int | None = None
    carried_skus: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Line:
    """A frozen line. `partner_amount` and `net` add up to the rated amount without the taxes that it holds.

    Attributes:
        quantity_before: of a correction, what had been billed before; None in any other charge.
        amount_before: likewise.
        partner_amount_before: likewise.
    """

    line_id: str
    rated: RatedLine
    partner_amount: Money
    net: Money
    quantity_before: Decimal | None = None
    amount_before: Money | None = None
    partner_amount_before: Money | None = None


@dataclass(frozen=True, slots=True)
class Total:
    """What the usage of one SKU in one project comes to."""

    sku: str
    project_id: str
    quantity: Decimal
    amount: Money

    def plus(self, other: Total) -> Total:
        """Add another of the same usage."""
        return replace(
            self, quantity=self.quantity + other.quantity, amount=self.amount + other.amount
        )


@dataclass(frozen=True, slots=True)
class Charge:
    """What one organisation owes for one period.

    Attributes:
        transfer_round: of its transfers: 1, unless an earlier release stored some that can never be posted.
        settled_at: None while the charge is PENDING.
        transfers: as the ledger has them, in the order of posting; none while the charge is PENDING.
        posting: by which they were made; None while there are none, and where no recipe made them.
        frozen: what an earlier release was about to post, in the order of posting; none once the charge is SETTLED.
        adjusts_charge_id: of a correction, the charge that it corrects; empty for a charge of usage.
        correction_no: which correction of that charge it is, from 1; 0 for a charge of usage.
        cause: why it reverses the other one, in words.
        reversed_by_charge_id: the correction that took this charge back; empty unless it is REVERSED.
        usage_ordinal: of the usage that it saw; None when it was made before metering told ordinals.
    """

    charge_id: str
    org_id: str
    period: Span
    lines: tuple[Line, ...]
    total: Money
    partner_total: Money
    status: ChargeStatus
    plan_id: str
    plan_version: int
    usage_snapshot: str
    transfer_round: int
    created_at: datetime
    settled_at: datetime | None = None
    transfers: tuple[LedgerTransfer, ...] = ()
    posting: Posting | None = None
    frozen: tuple[FrozenTransfer, ...] = ()
    kind: ChargeKind = ChargeKind.USAGE
    adjusts_charge_id: str = ""
    correction_no: int = 0
    cause: str = ""
    reversed_by_charge_id: str = ""
    usage_ordinal: int | None = None

    @property
    def taxes(self) -> list[TaxTotal]:
        """What the taxes of all lines come to, each at each rate."""
        return totals(tax for line in self.lines for tax in line.rated.taxes)

    @property
    def total_without_tax(self) -> Money:
        """The total without the taxes that it holds."""
        zero = Money(self.total.currency_code, 0)
        return sum((line.rated.without_tax for line in self.lines), zero)

    @property
    def total_with_tax(self) -> Money:
        """The total with all taxes: what the organisation owes."""
        zero = Money(self.total.currency_code, 0)
        return sum((line.rated.with_tax for line in self.lines), zero)


def charge_id_of(tenant_id: str, request_id: str) -> str:
    """Return the id of the charge that a request makes: the same for a retry after whatever happened."""
    return derived_id("chg", tenant_id, request_id.lower())


def chargeable(org_id: str, period: Span, now: datetime, *, allow_open: bool) -> Span:
    """Return the period that a charge made now covers: the one asked for, or its part up to now when it is still open.

    Raises:
        PeriodNotEnded: it is still open and `allow_open` is not set, or it has not begun.
    """
    if period.end_at <= now:
        return period
    if allow_open and period.start_at < now:
        return Span(period.start_at, now)
    start_at, end_at = _iso(period.start_at), _iso(period.end_at)
    if period.start_at >= now:
        cause = f"starts at {start_at}, which is in the future: charge it after {end_at}, when it has ended"
    else:
        cause = f"ends at {end_at}: charge it then, or set allow_open to charge the usage up to now"
    raise PeriodNotEnded(
        f"the period to charge for {org_id} {cause}; now is {_iso(now)}",
        org_id=org_id,
        start_at=start_at,
        end_at=end_at,
        now=_iso(now),
    )


def freeze(charge_id: str, org_id: str, period: Span, rating: Rating, now: datetime) -> Charge:
    """Make a charge of rated usage; from here on its lines do not change.

    Raises:
        ChargeTooLarge: more than LINES_MAX lines, PROOF_BYTES_MAX bytes of proofs, or POSTINGS_MAX postings.
        AmountOverflow: the total, with taxes too, or the opposite of a line, leaves the range of 64-bit minor units.
        CurrencyMismatch: a line is in another currency than the plan.
    """
    check_size(org_id, rating)
    lines = tuple(
        rated_line(str(place), rated) for place, rated in enumerate(rating.lines, start=1)
    )
    check_postings(org_id, lines)
    zero = Money(rating.currency_code, 0)
    charge = Charge(
        charge_id=charge_id,
        org_id=org_id,
        period=period,
        lines=lines,
        total=sum((line.rated.amount for line in lines), zero),
        partner_total=sum((line.partner_amount for line in lines), zero),
        status=ChargeStatus.PENDING,
        plan_id=rating.plan_id,
        plan_version=rating.plan_version,
        usage_snapshot=rating.usage_snapshot,
        transfer_round=1,
        created_at=now,
        usage_ordinal=rating.usage_ordinal,
    )
    # What is owed has to be an amount too.
    _ = charge.total_with_tax
    return charge


def check_postings(org_id: str, lines: Sequence[Line]) -> None:
    """Raises ChargeTooLarge: lines and their taxes make more postings than fit into one."""
    taxes = sum(len(line.rated.taxes) for line in lines)
    if 2 * len(lines) + taxes > POSTINGS_MAX:
        raise ChargeTooLarge(
            f"the usage of {org_id} gives {len(lines)} lines with {taxes} taxes; two postings a line and one a tax may"
            f" be {POSTINGS_MAX} at most: charge a shorter period",
            lines=len(lines),
            lines_max=LINES_MAX,
            proof_bytes=0,
            proof_bytes_max=PROOF_BYTES_MAX,
            taxes=taxes,
            postings_max=POSTINGS_MAX,
        )


def check_size(org_id: str, rating: Rating) -> None:
    """Raises ChargeTooLarge: more than LINES_MAX lines, or more than PROOF_BYTES_MAX bytes of proofs."""
    proof_bytes = sum(len(line.proof) for line in rating.lines)
    if len(rating.lines) > LINES_MAX or proof_bytes > PROOF_BYTES_MAX:
        raise ChargeTooLarge(
            f"the usage of {org_id} gives {len(rating.lines)} lines with {proof_bytes} bytes of proofs; the limits are"
            f" {LINES_MAX} and {PROOF_BYTES_MAX}: charge a shorter period, or price with fewer tiers",
            lines=len(rating.lines),
            lines_max=LINES_MAX,
            proof_bytes=proof_bytes,
            proof_bytes_max=PROOF_BYTES_MAX,
        )


def totals_of(charge: Charge) -> list[Total]:
    """Return what the lines of a charge come to; those that several partners share are one."""
    found: dict[tuple[str, str], Total] = {}
    for line in charge.lines:
        rated = line.rated
        total = Total(rated.sku, rated.project_id, rated.quantity, rated.amount)
        key = (rated.sku, rated.project_id)
        found[key] = found[key].plus(total) if key in found else total
    return [*found.values()]


def overlaps(org_id: str, charge_id: str) -> ChargeOverlaps:
    """Refuse a charge because of another one, named by its id."""
    return ChargeOverlaps(
        f"charge {charge_id} of {org_id} already covers part of this period; get that charge, or charge another period",
        charge_id=charge_id,
        org_id=org_id,
    )


def _iso(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def rated_line(line_id: str, rated: RatedLine) -> Line:
    """Split the partner's share off a rated line. Raises AmountOverflow when its opposite is no amount."""
    # A line below zero is posted as its opposite, the other way round: that has to be an amount too.
    _ = (-rated.amount, -rated.without_tax, *(-tax.amount for tax in rated.taxes))
    percent = rated.partner_pct if rated.partner_id and rated.partner_pct else Decimal(0)
    # Nobody earns on what is owed to an authority.
    partner_amount, net = share(rated.without_tax, percent)
    return Line(line_id, rated, partner_amount, net)


@dataclass(frozen=True, slots=True)
class Order:
    """What CreateCharge was asked for.

    Attributes:
        allow_open: a period that has not ended is charged up to now.
    """

    request_id: str
    org_id: str
    period: Span
    allow_open: bool = False


@dataclass(frozen=True, slots=True)
class ChargeFilter:
    """Which charges to list; what is empty means any."""

    org_id: str = ""
    period: Span | None = None
    adjusts_charge_id: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page of charges ended."""

    start_at: datetime
    charge_id: str
