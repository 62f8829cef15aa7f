"""What Stripe's codes mean here, as a table: the words of the seeds, the finer class, and whether others may accept.

A code that is not in it was declined for an unknown reason. Codes behind which the payer's bank forbids to try again,
or suspects fraud, are never taken elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an order was refused.

    Attributes:
        error_code: `declined`, `invalid_card`, `network_failure`, `unknown`.
        failure_code: finer.
        retryable: another processor might accept.
        never_again: the issuer forbids to try the instrument again, anywhere, or nothing it says will change.
    """

    error_code: str
    failure_code: str
    retryable: bool
    never_again: bool = False


DECLINED = Refusal("declined", "declined", retryable=False)
FOR_GOOD = Refusal("declined", "declined", retryable=False, never_again=True)
ELSEWHERE = Refusal("declined", "declined", retryable=True)
NO_FUNDS = Refusal("declined", "insufficient_funds", retryable=False)
EXPIRED = Refusal("invalid_card", "expired_card", retryable=False)
NO_ACCOUNT = Refusal("invalid_card", "other", retryable=False, never_again=True)
INVALID = Refusal("invalid_card", "other", retryable=False)
MISFIT = Refusal("unknown", "other", retryable=True)

REFUSALS: Mapping[str, Refusal] = {
    # The bank gives no reason, or a passing one: a second processor has its own way to it.
    "approve_with_id": ELSEWHERE,
    "issuer_not_available": ELSEWHERE,
    "processing_error": ELSEWHERE,
    "reenter_transaction": ELSEWHERE,
    "try_again_later": ELSEWHERE,
    # What this processor does not take, and another one may.
    "card_not_supported": ELSEWHERE,
    "currency_not_supported": ELSEWHERE,
    "amount_too_small": MISFIT,
    "amount_too_large": MISFIT,
    "testmode_decline": MISFIT,
    # The payer's bank said no.
    "call_issuer": DECLINED,
    "card_declined": DECLINED,
    "card_velocity_exceeded": DECLINED,
    "do_not_honor": DECLINED,
    "do_not_try_again": FOR_GOOD,
    "duplicate_transaction": DECLINED,
    "generic_decline": DECLINED,
    "invalid_amount": DECLINED,
    "no_action_taken": DECLINED,
    "not_permitted": DECLINED,
    "restricted_card": DECLINED,
    "revocation_of_all_authorizations": FOR_GOOD,
    "revocation_of_authorization": FOR_GOOD,
    "security_violation": DECLINED,
    "service_not_allowed": DECLINED,
    "stop_payment_order": FOR_GOOD,
    "transaction_not_allowed": DECLINED,
    # Suspected fraud: not to be tried elsewhere.
    "fraudulent": FOR_GOOD,
    "lost_card": FOR_GOOD,
    "merchant_blacklist": DECLINED,
    "pickup_card": FOR_GOOD,
    "stolen_card": FOR_GOOD,
    # The payer has to prove who it is, which nobody is there for.
    "authentication_required": DECLINED,
    "authentication_not_handled": DECLINED,
    "mobile_device_authentication_required": DECLINED,
    "payment_intent_authentication_failure": DECLINED,
    "offline_pin_required": DECLINED,
    "online_or_offline_pin_required": DECLINED,
    "insufficient_funds": NO_FUNDS,
    "withdrawal_count_limit_exceeded": NO_FUNDS,
    # The instrument.
    "expired_card": Refusal("invalid_card", "expired_card", retryable=False, never_again=True),
    "invalid_expiry_month": EXPIRED,
    "invalid_expiry_year": EXPIRED,
    "incorrect_address": INVALID,
    "incorrect_cvc": INVALID,
    "incorrect_number": NO_ACCOUNT,
    "incorrect_pin": INVALID,
    "incorrect_zip": INVALID,
    "invalid_account": NO_ACCOUNT,
    "invalid_cvc": INVALID,
    "invalid_number": NO_ACCOUNT,
    "invalid_pin": INVALID,
    "new_account_information_available": INVALID,
    "pin_try_exceeded": INVALID,
    "resource_missing": INVALID,
    # Ours.
    "called_off": Refusal("timeout", "timeout", retryable=True),
    "not_carried_out": MISFIT,
}


def refusal(*codes: str | None) -> tuple[str, Refusal]:
    """Return the first code that says something, with what it means here; the finer one stands first."""
    known = [code for code in codes if code]
    for code in known:
        if code in REFUSALS:
            return code, REFUSALS[code]
    return (known[0] if known else "no code"), MISFIT
