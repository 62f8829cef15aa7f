"""What can be judged of a transfer without the books."""

from __future__ import annotations

from services.ledger.domain.transfers import Kind, Transfer, TransferResult, moved

_R = TransferResult


def content_refusal(transfer: Transfer) -> TransferResult | None:
    """Judge what can be judged of a transfer without the books."""
    is_hold, flags, amount = transfer.kind is Kind.PENDING, transfer.flags, transfer.amount_minor
    if transfer.is_plain and transfer.debit_account_id != transfer.credit_account_id:
        return None if moved(transfer) > 0 else _R.AMOUNT_MUST_BE_POSITIVE
    is_zero_allowed = is_hold and flags.is_closing
    rules = (
        (flags.multi_capture and not is_hold, _R.FLAGS_ARE_MUTUALLY_EXCLUSIVE),
        (transfer.timeout_ms and not is_hold, _R.TIMEOUT_RESERVED_FOR_PENDING_TRANSFER),
        (
            transfer.debit_account_id == transfer.credit_account_id,
            _R.ACCOUNTS_MUST_BE_DIFFERENT,
        ),
        (transfer.pending_id is not None, _R.PENDING_ID_MUST_BE_ZERO),
        (flags.is_closing and not is_hold, _R.CLOSING_TRANSFER_MUST_BE_PENDING),
        (
            amount is not None and amount < (0 if is_zero_allowed else 1),
            _R.AMOUNT_MUST_BE_POSITIVE,
        ),
    )
    return next((result for broken, result in rules if broken), None)


def ending_refusal(transfer: Transfer) -> TransferResult | None:
    """Judge what can be judged of a transfer that ends a hold without the books."""
    if transfer.flags.is_special:
        return _R.FLAGS_ARE_MUTUALLY_EXCLUSIVE
    if transfer.pending_id is None:
        return _R.PENDING_ID_MUST_NOT_BE_ZERO
    if transfer.pending_id == transfer.transfer_id:
        return _R.PENDING_ID_MUST_BE_DIFFERENT
    if transfer.timeout_ms:
        return _R.TIMEOUT_RESERVED_FOR_PENDING_TRANSFER
    return None
