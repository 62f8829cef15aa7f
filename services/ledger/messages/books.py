"""Accounts, transfers and entries, as messages and back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from types import MappingProxyType
from uuid import UUID

from payments.ledger.v1 import balance_pb2, integrity_pb2, period_pb2
from payments.ledger.v1 import ledger_pb2 as pb
from payments.ledger.v1 import ledger_service_pb2 as service_pb
from payments.type.v1 import type_pb2

from services.ledger.domain.accounts import (
    NO_LIMITS,
    Account,
    AccountResult,
    AccountType,
    AccountView,
    EntryColumns,
    EntryFilter,
    EntryView,
    Flags,
    Limits,
)
from services.ledger.domain.balances import AsOf, BalanceLine
from services.ledger.domain.chain import Block
from services.ledger.domain.findings import Check, Finding, Progress
from services.ledger.domain.heads import LedgerHead
from services.ledger.domain.holds import TransferView
from services.ledger.domain.periods import AccountingPeriod, Closing, Reopening
from services.ledger.domain.posting import Verdict
from services.ledger.domain.transfers import (
    NO_FLAGS,
    Kind,
    Malformed,
    Reference,
    Transfer,
    TransferFlags,
)
from services.ledger.domain.trial_balance import CurrencySums, TypeSums
from services.runtime.cards import remark
from services.runtime.edge import validation
from services.runtime.edge import values as edge
from services.runtime.errors import InvalidField
from services.runtime.money import EXPONENTS, exponent

# One for all that have none: a batch of thousands would have as many for the garbage collector to look through.
_NO_METADATA: Mapping[str, str] = MappingProxyType({})

# ---- In


def refused_account(
    index: int, item: pb.Account, unreadable: str = ""
) -> service_pb.CreateAccountResult | None:
    """Write why an account is refused as it stands; None for one that may be created.

    `unreadable` says why it could not be read from what its sender wrote; it is empty for one that was.
    """
    if unreadable:
        message = f"the account cannot be read: {unreadable}"
        return account_result(index, item.account_id, AccountResult.INVALID_ACCOUNT, message)
    broken = validation.violations(item)
    if broken:
        message = "; ".join(f"{v.field}: {v.description}" for v in broken[:5])
        return account_result(index, item.account_id, AccountResult.INVALID_ACCOUNT, message)
    if item.currency_code not in EXPONENTS:
        message = f"currency_code: {item.currency_code!r} is not an ISO 4217 code"
        return account_result(index, item.account_id, AccountResult.UNKNOWN_CURRENCY, message)
    for name in ("floor", "ceiling"):
        if item.limits.HasField(name):
            code = getattr(item.limits, name).currency_code
            if code != item.currency_code:
                message = f"limits.{name}: must be in {item.currency_code}, the account's currency"
                return account_result(
                    index, item.account_id, AccountResult.INVALID_ACCOUNT, message
                )
    return None


def account_of(item: pb.Account) -> Account:
    """Read an account."""
    return Account(
        account_id=item.account_id,
        currency_code=item.currency_code,
        type=AccountType(item.type),
        flags=Flags(
            item.flags.debits_must_not_exceed_credits,
            item.flags.credits_must_not_exceed_debits,
            item.flags.closed,
            item.flags.limits_at_every_instant,
        ),
        owner=item.owner,
        metadata=dict(item.metadata),
        limits=_limits_of(item.limits) if item.HasField("limits") else NO_LIMITS,
    )


def _limits_of(limits: pb.AccountLimits) -> Limits:
    floor = limits.floor.minor_units if limits.HasField("floor") else None
    ceiling = limits.ceiling.minor_units if limits.HasField("ceiling") else None
    return NO_LIMITS if floor is None and ceiling is None else Limits(floor, ceiling)


# What the rules of the proto say of a plain transfer, in one look: most are plain, and the rules themselves cost more
# than all else that is done with one.
_PLAIN = re.compile(
    r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
    r"\|[A-Za-z0-9._:-]{1,200}\|[A-Za-z0-9._:-]{1,200}\|[A-Z]{3}"
).fullmatch
CODE_MAX = 65535


def transfer_of(item: pb.Transfer, unreadable: str = "") -> Transfer | Malformed:
    """Read a transfer, or what is wrong with it.

    `unreadable` says why it could not be read from what its sender wrote; it is empty for one that was.
    """
    if unreadable:
        return Malformed(f"the transfer cannot be read: {unreadable}", item.linked)
    return _plain_transfer_of(item) or _transfer_of(item)


def _plain_transfer_of(item: pb.Transfer) -> Transfer | None:
    """Read a transfer that is well and has nothing but accounts, an amount and a code; None for any other."""
    transfer_id, code, amount = item.transfer_id, item.code, item.amount
    debit, credit, currency = item.debit_account_id, item.credit_account_id, amount.currency_code
    if (
        item.kind > pb.KIND_POSTED
        or item.kind < 0
        or item.pending_id
        or item.linked
        or item.balancing_debit
        or item.balancing_credit
        or item.closing_debit
        or item.closing_credit
        or item.multi_capture
        or item.metadata
        or item.HasField("timeout")
        or item.HasField("effective_at")
        or item.HasField("not_before")
        or item.HasField("reference")
        or not 0 <= code <= CODE_MAX
        or not _PLAIN(f"{transfer_id}|{debit}|{credit}|{currency}")
    ):
        return None
    return Transfer(
        UUID(transfer_id), debit, credit, currency, amount.minor_units, code, metadata=_NO_METADATA
    )


def _transfer_of(item: pb.Transfer) -> Transfer | Malformed:
    broken = validation.violations(item)
    if broken:
        message = "; ".join(f"{v.field}: {v.description}" for v in broken[:5])
        return Malformed(message, item.linked)
    has_amount = item.HasField("amount")
    if problem := _problem(item, has_amount=has_amount):
        return Malformed(problem, item.linked)
    return Transfer(
        transfer_id=UUID(item.transfer_id),
        debit_account_id=item.debit_account_id,
        credit_account_id=item.credit_account_id,
        currency_code=item.amount.currency_code if has_amount else "",
        amount_minor=item.amount.minor_units if has_amount else None,
        code=item.code,
        kind=Kind(item.kind or Kind.POSTED),
        linked=item.linked,
        effective_at=edge.moment_or_none(item, "effective_at"),
        metadata=dict(item.metadata) if item.metadata else _NO_METADATA,
        pending_id=UUID(item.pending_id) if item.pending_id else None,
        timeout_ms=item.timeout.seconds * 1000 + item.timeout.nanos // 1_000_000,
        flags=_flags_of(item),
        reference=reference_of(item.reference) if item.HasField("reference") else None,
        not_before=edge.moment_or_none(item, "not_before"),
    )


def _problem(item: pb.Transfer, *, has_amount: bool) -> str:
    """Say what is missing, or odd, in a transfer of its kind; an empty text for nothing."""
    if item.kind not in (pb.KIND_POST_PENDING, pb.KIND_VOID_PENDING):
        for name in ("debit_account_id", "credit_account_id"):
            if not getattr(item, name):
                return f"{name}: is required, unless the transfer posts or voids a hold"
        if not (has_amount or item.balancing_debit or item.balancing_credit):
            return "amount: is required, unless the transfer posts or voids a hold or is balancing"
    if item.timeout.nanos % 1_000_000:
        return "timeout: must be of whole milliseconds"
    return ""


def _flags_of(item: pb.Transfer) -> TransferFlags:
    flags = TransferFlags(
        balancing_debit=item.balancing_debit,
        balancing_credit=item.balancing_credit,
        closing_debit=item.closing_debit,
        closing_credit=item.closing_credit,
        multi_capture=item.multi_capture,
    )
    return flags if flags.is_special else NO_FLAGS


# ---- Out


def account_result(
    index: int, account_id: str, result: AccountResult, message: str = ""
) -> service_pb.CreateAccountResult:
    """Return the result message of an account creation."""
    settled = result in {AccountResult.OK, AccountResult.EXISTS}
    if not settled and not message:
        message = f"account {account_id} {result.name.lower().replace('_', ' ')}; the existing one is unchanged"
    return service_pb.CreateAccountResult(
        index=index,
        account_id=account_id,
        result=int(result),  # type: ignore[arg-type] # numbers agree, see the tests
        message=message,
    )


def transfer_result(
    index: int, transfer_id: str, item: Transfer | Malformed, verdict: Verdict
) -> service_pb.PostTransferResult:
    """Return the result message of a transfer."""
    result = service_pb.PostTransferResult(
        index=index,
        transfer_id=transfer_id,
        result=verdict.result,  # type: ignore[arg-type] # numbers agree, see the tests
    )
    if verdict.original is not None:
        result.original_result = int(verdict.original)  # type: ignore[assignment]
    if isinstance(item, Malformed):
        result.message = item.message
    return result


def account(view: AccountView) -> pb.Account:
    """Write an account with its balances."""
    shown = view.account
    flags, limits = shown.flags, shown.limits
    message = pb.Account(
        account_id=shown.account_id,
        currency_code=shown.currency_code,
        type=int(shown.type),  # type: ignore[arg-type]
        flags=pb.AccountFlags(
            debits_must_not_exceed_credits=flags.debits_must_not_exceed_credits,
            credits_must_not_exceed_debits=flags.credits_must_not_exceed_debits,
            closed=view.closed,
            limits_at_every_instant=flags.limits_at_every_instant,
        ),
        owner=shown.owner,
        metadata=shown.metadata,
        balances=pb.Balances(
            debits_posted=view.debits_posted,
            credits_posted=view.credits_posted,
            debits_pending=view.debits_pending,
            credits_pending=view.credits_pending,
        ),
    )
    if limits.floor_minor is not None:
        message.limits.floor.CopyFrom(_minor(shown.currency_code, limits.floor_minor))
    if limits.ceiling_minor is not None:
        message.limits.ceiling.CopyFrom(_minor(shown.currency_code, limits.ceiling_minor))
    message.created_at.FromDatetime(view.created_at)
    return message


def recorded_transfer(view: TransferView) -> pb.RecordedTransfer:
    """Write a transfer as it is in the books."""
    shown = view.transfer
    found = pb.RecordedTransfer(
        transfer=transfer(shown, view.effective_at),
        recorded_at=edge.stamp(view.recorded_at),
        reverses_transfer_id=str(shown.reverses_id or ""),
        reversed_by_transfer_id=str(view.reversed_by_id or ""),
        posting_id=str(shown.posting_id or ""),
    )
    if view.hold is not None:
        found.hold.state = int(view.hold.state)  # type: ignore[assignment] # numbers agree
        found.hold.remaining.CopyFrom(_minor(shown.currency_code, view.hold.remaining_minor))
        if view.hold.expires_at is not None:
            found.hold.expires_at.CopyFrom(edge.stamp(view.hold.expires_at))
    return found


def transfer(shown: Transfer, effective_at: datetime | None) -> pb.Transfer:
    """Write a transfer; without an amount where its sender has left that open."""
    flags, amount = shown.flags, shown.amount_minor
    message = pb.Transfer(
        transfer_id=str(shown.transfer_id),
        debit_account_id=shown.debit_account_id,
        credit_account_id=shown.credit_account_id,
        amount=None if amount is None else _minor(shown.currency_code, amount),
        code=shown.code,
        kind=int(shown.kind),  # type: ignore[arg-type] # numbers agree, see the tests
        pending_id=str(shown.pending_id or ""),
        linked=shown.linked,
        balancing_debit=flags.balancing_debit,
        balancing_credit=flags.balancing_credit,
        closing_debit=flags.closing_debit,
        closing_credit=flags.closing_credit,
        multi_capture=flags.multi_capture,
        effective_at=edge.stamp_or_none(effective_at),
        not_before=edge.stamp_or_none(shown.not_before),
        metadata=shown.metadata,
        reference=reference(shown.reference),
    )
    if shown.timeout_ms:
        message.timeout.FromMilliseconds(shown.timeout_ms)
    return message


def reversed_(view: TransferView) -> service_pb.ReverseTransferResponse:
    """Write the transfer that reverses another."""
    return service_pb.ReverseTransferResponse(transfer=recorded_transfer(view))


def entry(view: EntryView, account_type: AccountType) -> pb.Entry:
    """Write an entry of an account."""
    is_debit = view.amount_minor > 0
    balance_after = account_type.balance(view.balance_after_minor)
    return pb.Entry(
        account_id=view.account_id,
        seq=view.seq,
        transfer_id=str(view.transfer_id),
        direction=pb.DIRECTION_DEBIT if is_debit else pb.DIRECTION_CREDIT,
        amount=_minor(view.currency_code, abs(view.amount_minor)),
        balance_after=_minor(view.currency_code, balance_after),
        counter_account_id=view.counter_account_id,
        code=view.code,
        metadata=view.metadata,
        recorded_at=edge.stamp(view.recorded_at),
        effective_at=edge.stamp(view.effective_at),
        reference=reference(view.reference),
    )


def reference(shown: Reference | None) -> pb.Reference | None:
    """Write a reference; None for none."""
    return None if shown is None else pb.Reference(kind=shown.kind, id=shown.id, part=shown.part)


def reference_of(item: pb.Reference) -> Reference:
    """Read a reference."""
    return Reference(item.kind, item.id, item.part)


def entry_filter(request: service_pb.ExportEntriesRequest) -> EntryFilter:
    """Read which entries are asked for. Raises InvalidField."""
    if request.account_ids and request.owner:
        raise InvalidField.one("owner", "give either account_ids or owner, not both")
    account_ids = sorted(set(request.account_ids))
    if not request.HasField("recorded_in"):
        return EntryFilter(account_ids, request.owner)
    period = request.recorded_in
    return EntryFilter(
        account_ids,
        request.owner,
        edge.moment_of(period.start_at),
        edge.moment_of(period.end_at),
    )


def entry_columns(entries: EntryColumns) -> service_pb.EntryColumns:
    """Write entries by column."""
    return service_pb.EntryColumns(
        account_ids=entries.account_ids,
        seqs=entries.seqs,
        transfer_ids=entries.transfer_ids,
        amounts_minor=entries.amounts_minor,
        balances_after_minor=entries.balances_after_minor,
        currency_codes=entries.currency_codes,
        counter_account_ids=entries.counter_account_ids,
        codes=entries.codes,
        recorded_at_us=entries.recorded_at_us,
        effective_at_us=entries.effective_at_us,
        metadata=entries.metadata,
    )


def currency_sums(sums: CurrencySums) -> pb.CurrencyTrialBalance:
    """Write the sums of a currency."""
    return pb.CurrencyTrialBalance(
        currency_code=sums.currency_code,
        debits=edge.money(sums.debits),
        credits=edge.money(sums.credits),
        difference=edge.money(sums.difference),
        types=[_type_message(item) for item in sums.types],
    )


def _type_message(sums: TypeSums) -> pb.TypeTrialBalance:
    return pb.TypeTrialBalance(
        type=int(sums.type),  # type: ignore[arg-type]
        accounts=sums.accounts,
        debits=edge.money(sums.debits),
        credits=edge.money(sums.credits),
        balance=edge.money(sums.balance),
    )


def _minor(currency_code: str, minor_units: int) -> type_pb2.Money:
    return type_pb2.Money(currency_code=currency_code, minor_units=minor_units)


# ---- Blocks, heads and what a verification finds

CHECKS = edge.Names(Check, integrity_pb2.IntegrityCheck, "INTEGRITY_CHECK_")


def block(shown: Block) -> integrity_pb2.Block:
    """Write a block."""
    return integrity_pb2.Block(
        block_no=shown.block_no,
        first_batch_no=shown.first.batch_no,
        first_position=shown.first.position,
        last_batch_no=shown.last.batch_no,
        last_position=shown.last.position,
        transfer_count=shown.transfer_count,
        transfer_total=shown.transfer_total,
        previous_hash=shown.previous_hash.hex(),
        hash=shown.hash.hex(),
        recorded_at=edge.stamp(shown.recorded_at),
    )


def ledger_head(head: LedgerHead) -> integrity_pb2.LedgerHead:
    """Write a head."""
    return integrity_pb2.LedgerHead(
        tenant_id=head.tenant_id,
        block_no=head.block_no,
        hash=head.hash.hex(),
        transfer_count=head.transfer_count,
        signed_at=edge.stamp(head.signed_at),
        signature=head.signature,
        public_key=head.public_key,
        key_id=head.key_id,
        signed_text=head.signed_text,
    )


def ledger_head_of(message: integrity_pb2.LedgerHead) -> LedgerHead:
    """Read a head that was kept; what is signed is written anew from what it says."""
    return LedgerHead(
        tenant_id=message.tenant_id,
        block_no=message.block_no,
        hash=bytes.fromhex(message.hash),
        transfer_count=message.transfer_count,
        signed_at=edge.moment_of(message.signed_at),
        key_id=message.key_id,
        public_key=message.public_key,
        signature=message.signature,
    )


def verified(found: Finding | Progress) -> service_pb.VerifyIntegrityResponse:
    """Write what was found, or how far a verification is."""
    check = CHECKS.write(found.check)
    if isinstance(found, Progress):
        progress = integrity_pb2.IntegrityProgress(
            integrity_check=check, looked_at=found.looked_at, done=found.done
        )
        return service_pb.VerifyIntegrityResponse(progress=progress)
    finding = integrity_pb2.IntegrityFinding(
        integrity_check=check,
        severity=found.severity,
        account_id=found.account_id,
        transfer_id=str(found.transfer_id or ""),
        block_no=found.block_no,
        message=found.message,
        expected=found.expected,
        found=found.found,
    )
    return service_pb.VerifyIntegrityResponse(finding=finding)


# ---- Balances and periods


def as_of(request: service_pb.GetBalanceRequest | service_pb.GetTrialBalanceRequest) -> AsOf:
    """Read the times that are asked for."""
    return AsOf(
        edge.moment_or_none(request, "effective_at"), edge.moment_or_none(request, "recorded_at")
    )


def balance(
    now: datetime, asked: AsOf, lines: Iterable[BalanceLine]
) -> service_pb.GetBalanceResponse:
    """Write what accounts add up to. Raises AmountOverflow."""
    found = balance_pb2.Balance(
        lines=map(_line, lines),
        effective_at=edge.stamp_or_none(asked.effective_at),
        recorded_at=edge.stamp(asked.recorded_at or now),
    )
    return service_pb.GetBalanceResponse(balance=found)


def _line(line: BalanceLine) -> balance_pb2.BalanceLine:
    sums = line.sums
    message = balance_pb2.BalanceLine(
        currency_code=sums.currency_code,
        type=int(sums.type),  # type: ignore[arg-type]
        accounts=sums.accounts,
        debits=edge.money(sums.debits),
        credits=edge.money(sums.credits),
        balance=edge.money(sums.balance),
    )
    if line.debits_pending is not None and line.credits_pending is not None:
        message.debits_pending.CopyFrom(edge.money(line.debits_pending))
        message.credits_pending.CopyFrom(edge.money(line.credits_pending))
    return message


def trial_balance(
    now: datetime, asked: AsOf, currencies: Iterable[CurrencySums]
) -> service_pb.GetTrialBalanceResponse:
    """Write what all accounts add up to. Raises AmountOverflow."""
    found = pb.TrialBalance(
        currencies=map(currency_sums, currencies),
        effective_at=edge.stamp_or_none(asked.effective_at),
        recorded_at=edge.stamp(asked.recorded_at or now),
    )
    return service_pb.GetTrialBalanceResponse(trial_balance=found)


def closing_of(request: service_pb.ClosePeriodRequest) -> Closing:
    """Read what is to be closed. Raises UnknownCurrency."""
    exponent(request.currency_code)
    return Closing(request.currency_code, edge.moment_of(request.closed_through))


def reopening_of(request: service_pb.ReopenPeriodRequest) -> Reopening:
    """Read what is to be reopened. Raises UnknownCurrency."""
    exponent(request.currency_code)
    return Reopening(
        request.currency_code,
        edge.moment_or_none(request, "closed_through"),
        remark(request.reason),
    )


def closed(period: AccountingPeriod) -> service_pb.ClosePeriodResponse:
    """Write how far books are closed that were just closed."""
    return service_pb.ClosePeriodResponse(period=accounting_period(period))


def reopened(period: AccountingPeriod) -> service_pb.ReopenPeriodResponse:
    """Write how far books are closed that were just reopened."""
    return service_pb.ReopenPeriodResponse(period=accounting_period(period))


def accounting_period(period: AccountingPeriod) -> period_pb2.AccountingPeriod:
    """Write how far the books of a currency are closed."""
    return period_pb2.AccountingPeriod(
        currency_code=period.currency_code,
        closed_through=edge.stamp_or_none(period.closed_through),
        reason=period.reason,
        updated_at=edge.stamp(period.updated_at),
    )
