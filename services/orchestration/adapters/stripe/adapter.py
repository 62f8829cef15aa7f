"""Payments by PaymentIntents, in two phases: one is made, which moves no money, and then confirmed.

Only the second call can leave an outcome unknown. What became of it is asked by the PaymentIntent, which is found by
its id, else by making it again under its own key, else in the list of what was made since; one that was never
confirmed is cancelled by the question, so that a late confirmation finds nothing to confirm.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from typing import Any

import stripe

from services.orchestration.adapters.registry import Access
from services.orchestration.adapters.stripe.client import Unsent, client
from services.orchestration.adapters.stripe.errors import refusal
from services.orchestration.adapters.stripe.events import heard
from services.orchestration.domain.minor_units import STRIPE, NotExpressible
from services.orchestration.domain.operations import Operation
from services.orchestration.domain.processors import Capabilities, ProcessorConfig
from services.orchestration.domain.webhooks import News
from services.orchestration.ports import (
    Finding,
    Inquiry,
    NotFound,
    NotSent,
    Order,
    Pending,
    Settled,
    Unknown,
    Verdict,
    Webhook,
)
from services.runtime.errors import FieldViolation

KEY_TTL = timedelta(hours=24)
# Keys may be forgotten after their life, not at its end exactly; clocks differ.
KEY_MARGIN = timedelta(hours=1)
CLOCK_SKEW = timedelta(minutes=5)
PAGE = 100
# Of the time that a call may take; the rest is for telling.
ANSWER_SHARE = 0.95
# A question that cannot be answered from so many objects is left open.
SCANNED_MAX = 10_000
MESSAGE_MAX = 300

_FLAGS = {
    "idempotency_keys": "true",
    "created_filter": "true",
    "multicapture": "false",
    "automatic_methods": "true",
}
# A PaymentIntent that nobody has confirmed, or whose confirmation failed.
_NOT_CARRIED_OUT = frozenset(
    {"requires_confirmation", "requires_payment_method", "requires_action"}
)
_MOVES = frozenset({"succeeded", "requires_capture", "processing"})
_DONE = {
    Operation.AUTHORIZE: "requires_capture",
    Operation.CHARGE: "succeeded",
    Operation.CAPTURE: "succeeded",
    Operation.VOID: "canceled",
}
# Refusals that tell where an object stands, and not what the call has done to it.
_ABOUT_STATE = frozenset({"payment_intent_unexpected_state", "resource_already_exists"})

# An object as the library reads it.
_Object = dict[str, Any]


class _TooMany(Exception):
    """More was made since than is looked through."""


class _NeverMade(Exception):
    """The order was refused before it was made."""

    def __init__(self, refused: Settled) -> None:
        super().__init__(refused.message)
        self.refused = refused


class StripeAdapter:
    """Speaks to Stripe."""

    name = "stripe"
    own_url = "https://api.stripe.com"

    def check(self, config: ProcessorConfig) -> Sequence[FieldViolation]:
        """Return what is wrong with the settings."""
        faults = [
            FieldViolation(f"settings[{name}]", _fault(name))
            for name, value in config.settings
            if name not in _FLAGS or value not in ("true", "false")
        ]
        if _flag(config, "multicapture") and not _flag(config, "idempotency_keys"):
            # Without keys nobody could tell one of several captures from another.
            said = "needs idempotency_keys: which of several captures was made is told by its key"
            faults.append(FieldViolation("settings[multicapture]", said))
        return faults

    def capabilities(self, config: ProcessorConfig) -> Capabilities:
        """Return what Stripe can do."""
        return Capabilities(
            settle_window=timedelta(seconds=60),
            holds=True,
            replay_key=_flag(config, "idempotency_keys"),
            key_ttl=KEY_TTL,
            two_phase=True,
            captures_many=_flag(config, "multicapture"),
            minor_units=STRIPE,
        )

    async def ask(self, access: Access, operation: Operation, order: Order) -> Verdict:
        """Have an operation carried out."""
        return await _Call(access, operation, order).ask()

    async def lookup(self, access: Access, inquiry: Inquiry) -> Finding:
        """Return the outcome of an order."""
        return await _Call(access, inquiry.operation, inquiry.order).lookup(inquiry)

    def hear(
        self, config: ProcessorConfig, secrets: Sequence[str], webhook: Webhook, now: datetime
    ) -> News:
        """Read an event. Raises Forged, InvalidField."""
        return heard(secrets, webhook, now)


@dataclass(frozen=True, slots=True)
class _Call:
    """One order at Stripe."""

    access: Access
    operation: Operation
    order: Order

    @property
    def _intents(self) -> Any:
        # The library's types want literals for what is a variable here.
        return client(self.access).v1.payment_intents

    @property
    def _refunds(self) -> Any:
        return client(self.access).v1.refunds

    async def ask(self) -> Verdict:
        if self.operation in (Operation.AUTHORIZE, Operation.CHARGE):
            return await self._take()
        if not self.order.parent_ref:
            return self._refused("not_carried_out", "Stripe's id of what it follows is not known")
        if self.operation is Operation.CAPTURE and not self._closes():
            said = (
                "a capture closes its authorisation: set multicapture where the account may do more"
            )
            return self._refused("not_carried_out", said)
        return await self._carried_out(self._follow())

    async def lookup(self, inquiry: Inquiry) -> Finding:
        try:
            return await self._found(inquiry)
        except Unsent as error:
            return Unknown(error.reason)
        except stripe.StripeError as error:
            return Unknown(_said(error))
        except NotExpressible as error:
            return Unknown(str(error))

    # ---- taking

    async def _take(self) -> Verdict:
        """Make a PaymentIntent and confirm it. Until it is confirmed, nothing that goes wrong can have charged."""
        began = monotonic()
        try:
            intent_id = str((await self._make())["id"])
        except Unsent as error:
            return NotSent(error.reason)
        except (stripe.CardError, stripe.InvalidRequestError) as error:
            return self._refused_by(error)
        except stripe.StripeError as error:
            return NotSent(f"no order was made: {_said(error)}")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            # An answer that is none, or a call that could not be put together: nothing was confirmed either way.
            return NotSent(f"no order was made: {type(error).__name__}")
        confirmed = self._intents.confirm_async(
            intent_id, {}, {"idempotency_key": f"{self.order.idempotency_key}-confirm"}
        )
        # What is not answered in time is known by its id all the same.
        left = self.order.timeout_ms / 1000 * ANSWER_SHARE - (monotonic() - began)
        try:
            async with asyncio.timeout(max(left, 0) if self.order.timeout_ms else None):
                return await self._carried_out(confirmed, intent_id)
        except TimeoutError:
            return Unknown("timeout", intent_id)

    async def _make(self) -> _Object:
        order = self.order
        params: dict[str, Any] = {
            "amount": self._number(order.amount_minor),
            "currency": order.currency.lower(),
            "capture_method": "manual" if self.operation is Operation.AUTHORIZE else "automatic",
            "metadata": {"merchant_ref": order.merchant_ref},
        }
        if order.token:
            params["payment_method"] = order.token
        if self._flag("automatic_methods"):
            # Else Stripe takes the account's methods, and refuses to confirm without an address to lead the payer back
            # to, as some of them lead away. Nobody is there to be led.
            params["automatic_payment_methods"] = {"enabled": True, "allow_redirects": "never"}
        if self.operation is Operation.AUTHORIZE and self._flag("multicapture"):
            params["payment_method_options"] = {"card": {"request_multicapture": "if_available"}}
        options = {"idempotency_key": order.idempotency_key}
        return _plain(await self._intents.create_async(params, options))

    def _follow(self) -> Awaitable[stripe.StripeObject]:
        order, options = self.order, {"idempotency_key": self.order.idempotency_key}
        amount = self._number(order.amount_minor)
        if self.operation is Operation.CAPTURE:
            capture: dict[str, Any] = {"amount_to_capture": amount}
            if self._flag("multicapture"):
                capture["final_capture"] = order.closes
            call = self._intents.capture_async(order.parent_ref, capture, options)
        elif self.operation is Operation.VOID:
            call = self._intents.cancel_async(order.parent_ref, {}, options)
        else:
            refund = {
                "payment_intent": order.parent_ref,
                "amount": amount,
                "metadata": {"merchant_ref": order.merchant_ref},
            }
            call = self._refunds.create_async(refund, options)
        made: Awaitable[stripe.StripeObject] = call
        return made

    def _closes(self) -> bool:
        return self.order.closes or self._flag("multicapture")

    def _flag(self, name: str) -> bool:
        return _flag(self.access.config, name)

    async def _carried_out(
        self, call: Awaitable[stripe.StripeObject], intent_id: str = ""
    ) -> Verdict:
        """Read the answer to a call that moves money. What is no answer leaves the outcome unknown."""
        try:
            answer = _plain(await call)
            if answer.get("status") == "requires_action":
                # Nobody is there to authenticate, now or later.
                await self._intents.cancel_async(answer["id"])
            told = (
                self._told_of_capture(answer) if self._is_one_of_several() else self._told(answer)
            )
        except Unsent as error:
            return NotSent(error.reason)
        except stripe.StripeError as error:
            return self._failed(error, intent_id)
        except NotExpressible as error:
            return Unknown(str(error), intent_id)
        if isinstance(told, NotFound):
            return Unknown("the answer says that nothing was done", intent_id)
        return told

    def _failed(self, error: stripe.StripeError, intent_id: str) -> Settled | Unknown:
        definite = isinstance(error, stripe.CardError | stripe.AuthenticationError)
        definite |= isinstance(error, stripe.PermissionError)
        # What was done before is refused as invalid too, and where there are no keys it may have been this.
        if isinstance(error, stripe.InvalidRequestError) and self._flag("idempotency_keys"):
            definite |= error.code not in _ABOUT_STATE
        if definite:
            return self._refused_by(error, intent_id)
        return Unknown(_said(error), intent_id)

    # ---- asking

    async def _found(self, inquiry: Inquiry) -> Finding:
        if self.operation in (Operation.AUTHORIZE, Operation.CHARGE):
            return await self._found_taken(inquiry)
        if not self.order.parent_ref:
            return NotFound()
        if self.operation is Operation.REFUND:
            return await self._found_refund()
        intent = _plain(await self._intents.retrieve_async(self.order.parent_ref))
        if self._is_one_of_several() and _received(intent) >= self._number(self.order.amount_minor):
            # The PaymentIntent tells only their sum. The same order under its key finds this one out.
            return Unknown("it is not told which of several captures was made")
        return self._told(intent)

    async def _found_taken(self, inquiry: Inquiry) -> Finding:
        """Find the PaymentIntents of an order, and call off what was not carried out."""
        try:
            intents = await self._made(inquiry)
        except _TooMany:
            return Unknown("too many payments were made since to find it")
        except _NeverMade as error:
            return error.refused
        for each in intents:
            if each["status"] in _MOVES:
                return self._told(each)
        for each in intents:
            if each["status"] in _NOT_CARRIED_OUT:
                await self._intents.cancel_async(each["id"])
        return self._not_carried_out(intents[0]) if intents else NotFound()

    async def _made(self, inquiry: Inquiry) -> list[_Object]:
        """Return the PaymentIntents of an order. Raises _TooMany, _NeverMade."""
        if inquiry.provider_ref:
            return [_plain(await self._intents.retrieve_async(inquiry.provider_ref))]
        age = self.access.clock.now() - inquiry.sent_at
        if self._flag("idempotency_keys") and age < KEY_TTL - KEY_MARGIN:
            # The first answer again; or, when the order never arrived, one that is cancelled at once: either way a
            # late arrival of the first call gets this one.
            try:
                made = await self._make()
            except stripe.InvalidRequestError as error:
                raise _NeverMade(self._refused_by(error)) from error
            return [_plain(await self._intents.retrieve_async(made["id"]))]
        window: dict[str, Any] = {}
        if self._flag("created_filter"):
            since = inquiry.sent_at - CLOCK_SKEW
            window["created"] = {"gte": int(since.timestamp())}
        found = []
        seen = 0
        async for each in self._listed("/v1/payment_intents", window):
            seen += 1
            if seen > SCANNED_MAX:
                raise _TooMany
            if _reference(each) == self.order.merchant_ref:
                found.append(each)
        return found

    async def _found_refund(self) -> Finding:
        window = {"payment_intent": self.order.parent_ref}
        async for each in self._listed("/v1/refunds", window):
            if _reference(each) == self.order.merchant_ref:
                return self._told(each)
        return NotFound()

    async def _listed(self, path: str, window: Mapping[str, Any]) -> AsyncIterator[_Object]:
        """Give the objects of a list, page by page.

        As they were sent: making the library's objects of a page takes forty times as long as reading it, and everybody
        else waits meanwhile.
        """
        after: dict[str, str] = {}
        while True:
            asked = {**window, "limit": PAGE, **after}
            page = (await client(self.access).raw_request_async("get", path, **asked)).data
            objects = page.get("data") if isinstance(page, dict) else None
            if not isinstance(objects, list) or not all(isinstance(each, dict) for each in objects):
                raise stripe.APIError("the answer is no list")
            for each in objects:
                yield each
            if not objects or not page.get("has_more"):
                return
            last = objects[-1].get("id")
            # Without an id to go on from, or with the one just gone on from, the same page would come again for ever.
            if not isinstance(last, str) or not last or last == after.get("starting_after"):
                raise stripe.APIError("the answer is no list")
            after = {"starting_after": last}

    # ---- reading

    def _told(self, answer: _Object) -> Settled | Pending | NotFound:
        """Read what became of an order from the object that tells it. Raises NotExpressible."""
        status = answer["status"]
        if self.operation is Operation.REFUND:
            return self._told_of_refund(answer)
        if status == "processing":
            return Pending(answer["id"])
        if status == _DONE[self.operation] or self._let_go_beside_captures(answer):
            return self._done(answer, self._amount_of(answer), self._reference_of(answer))
        if self.operation in (Operation.AUTHORIZE, Operation.CHARGE):
            return self._not_carried_out(answer)
        if status in ("canceled", "succeeded"):
            said = f"what it follows is {status}"
            return self._refused("not_carried_out", said, answer["id"])
        return NotFound()

    def _is_one_of_several(self) -> bool:
        return self.operation is Operation.CAPTURE and self._flag("multicapture")

    def _told_of_capture(self, answer: _Object) -> Settled | Pending | NotFound:
        """Read the answer to one of several captures: it has their sum, so what was asked for is what was done."""
        least = self._number(self.order.amount_minor)
        if answer["status"] not in ("requires_capture", "succeeded") or _received(answer) < least:
            return self._told(answer)
        return self._done(answer, least, self._reference_of(answer))

    def _told_of_refund(self, refund: _Object) -> Settled | Pending:
        if refund["status"] in ("pending", "requires_action"):
            return Pending(refund["id"])
        if refund["status"] == "succeeded":
            return self._done(refund, refund["amount"], _reference(refund))
        return self._refused("card_declined", f"the refund is {refund['status']}", refund["id"])

    def _not_carried_out(self, intent: _Object) -> Settled:
        if intent["status"] == "requires_action":
            said = "the payer would have to authenticate"
            return self._refused("authentication_required", said, intent["id"])
        error = intent.get("last_payment_error")
        if error:
            code, _ = refusal(error.get("decline_code"), error.get("code"))
            return self._refused(code, error.get("message") or "", intent["id"])
        return self._refused("called_off", "it was cancelled before it was confirmed", intent["id"])

    def _let_go_beside_captures(self, intent: _Object) -> bool:
        """Say whether nothing is held any more of an authorisation that was captured in part before."""
        return (
            self.operation is Operation.VOID
            and intent["status"] == "succeeded"
            and 0 < _received(intent) < int(intent["amount"])
        )

    def _amount_of(self, intent: _Object) -> int:
        if self.operation is Operation.VOID:
            return int(intent["amount"]) - _received(intent)
        if self.operation is not Operation.CAPTURE:
            return int(intent["amount"])
        if intent.get("amount_received") is not None:
            return int(intent["amount_received"])
        # A peer that says it of the charge only.
        charge = intent["latest_charge"]
        return int(charge["amount"]) - int(charge["amount_refunded"])

    def _reference_of(self, intent: _Object) -> str:
        if self.operation in (Operation.CAPTURE, Operation.VOID):
            # They have no reference of their own; what they act on is named by its id.
            return self.order.merchant_ref if intent["id"] == self.order.parent_ref else ""
        return _reference(intent)

    def _number(self, amount_minor: int) -> int:
        return STRIPE.to_processor(amount_minor, self.order.currency)

    def _done(self, answer: _Object, amount: int, reference: str) -> Settled:
        currency = answer["currency"].upper()
        amount_minor = STRIPE.from_processor(amount, currency)
        return Settled(True, answer["id"], amount_minor, currency, reference)

    def _refused_by(self, error: stripe.StripeError, intent_id: str = "") -> Settled:
        code, _ = refusal(_finer(error), error.code)
        return self._refused(code, error.user_message or type(error).__name__, intent_id)

    def _refused(self, code: str, said: str, provider_ref: str = "") -> Settled:
        """Build a refusal; the raw code stands before what Stripe says."""
        _, meaning = refusal(code)
        return Settled(
            done=False,
            provider_ref=provider_ref,
            amount_minor=self.order.amount_minor,
            currency=self.order.currency,
            merchant_ref=self.order.merchant_ref,
            error_code=meaning.error_code,
            failure_code=meaning.failure_code,
            retryable=meaning.retryable,
            never_again=meaning.never_again,
            message=f"{code}: {said}"[:MESSAGE_MAX],
        )


def _plain(answer: stripe.StripeObject) -> _Object:
    read: _Object = answer.to_dict()
    return read


def _reference(answer: _Object) -> str:
    return str((answer.get("metadata") or {}).get("merchant_ref", ""))


def _received(intent: _Object) -> int:
    """Return what was captured of a PaymentIntent, of all captures together."""
    return int(intent.get("amount_received") or 0)


def _finer(error: stripe.StripeError) -> str | None:
    return str(getattr(error.error, "decline_code", None) or "") or None


def _said(error: stripe.StripeError) -> str:
    """Say what went wrong, without what was sent."""
    status = f" {error.http_status}" if error.http_status else ""
    return f"Stripe answered{status} {error.code or type(error).__name__}"[:MESSAGE_MAX]


def _flag(config: ProcessorConfig, name: str) -> bool:
    return config.setting(name, _FLAGS[name]) == "true"


def _fault(name: str) -> str:
    if name in _FLAGS:
        return "must be true or false"
    return f"is no setting of this adapter; it has {', '.join(sorted(_FLAGS))}"
