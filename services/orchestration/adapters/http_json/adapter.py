"""Payments by a gateway of one's own: one request an operation, and one question about what became of it.

What is no whole and clear answer leaves the outcome unknown, whatever its status line says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import quote, urlsplit

from jsonpointer import JsonPointer, JsonPointerException

from services.orchestration.adapters import signatures
from services.orchestration.adapters.http_json.form import (
    DONE,
    PENDING,
    REFUSED,
    Form,
    Meaning,
    capabilities_of,
    faults,
    form_of,
    text,
)
from services.orchestration.adapters.registry import Access
from services.orchestration.adapters.wire import NoReply, NotReached, Reply
from services.orchestration.domain.issues import sanitized
from services.orchestration.domain.operations import Operation
from services.orchestration.domain.processors import Capabilities, ProcessorConfig
from services.orchestration.domain.webhooks import News, news
from services.orchestration.ports import (
    Finding,
    Forged,
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
from services.runtime.errors import FieldViolation, InvalidField, UnknownCurrency
from services.runtime.money import Money, exponent, to_decimal

MESSAGE_MAX = 300
CODE_MAX = 100
REF_MAX = 200
# Of an answer that says nothing else: the request was read, and turned down before anything was done.
_TURNED_DOWN = frozenset({400, 401, 403, 404, 405, 413, 415, 422})
_NOT_THERE = 404
_UNCLEAR_FROM = 500


class _Unclear(ValueError):
    """An answer does not say what it has to."""


class HttpJsonAdapter:
    """Speaks to gateways that take and give JSON, in the form that their configuration says."""

    name = "http-json"
    own_url = ""

    def check(self, config: ProcessorConfig) -> Sequence[FieldViolation]:
        """Return what is wrong with the settings."""
        return faults(config)

    def capabilities(self, config: ProcessorConfig) -> Capabilities:
        """Return what the gateway can do, as its configuration says."""
        return capabilities_of(config)

    async def ask(self, access: Access, operation: Operation, order: Order) -> Verdict:
        """Have an operation carried out."""
        return await _Call(access, form_of(access.config), operation, order).ask()

    async def lookup(self, access: Access, inquiry: Inquiry) -> Finding:
        """Return the outcome of an order."""
        form = form_of(access.config)
        return await _Call(access, form, inquiry.operation, inquiry.order).lookup()

    def hear(
        self, config: ProcessorConfig, secrets: Sequence[str], webhook: Webhook, now: datetime
    ) -> News:
        """Read what the gateway tells by itself. Raises Forged, InvalidField."""
        scheme = text(config, "webhook.scheme")
        if not _is_signed(config, scheme, secrets, webhook, now):
            raise Forged
        try:
            told = json.loads(webhook.body)
        except (ValueError, RecursionError):
            raise InvalidField.one("raw_request", "must be an event in JSON") from None
        event_id = (
            webhook.headers["webhook-id"]
            if scheme == "standard"
            else _at(told, text(config, "webhook.id"))
        )
        return news(event_id, _at(told, text(config, "webhook.merchant_ref")))


@dataclass(frozen=True, slots=True)
class _Call:
    """One order at a gateway."""

    access: Access
    form: Form
    operation: Operation
    order: Order

    async def ask(self) -> Verdict:
        path = self.form.paths.get(self.operation)
        if path is None:
            return self._refused(f"it has no path for {self.operation.value.lower()}")
        takes = self.operation in (Operation.AUTHORIZE, Operation.CHARGE)
        if not takes and not self.order.parent_ref:
            return self._refused("the gateway's id of what it follows is not known")
        try:
            reply = await self._send("POST", path, self._body())
        except NotReached as error:
            return NotSent(str(error))
        except NoReply as error:
            return Unknown(str(error))
        return self._verdict(reply)

    def _verdict(self, reply: Reply) -> Verdict:
        said = f"the gateway answered {reply.status}"
        if reply.status >= _UNCLEAR_FROM:
            return Unknown(said)
        try:
            return self._told(_read(reply))
        except _Unclear as error:
            if reply.status in _TURNED_DOWN:
                return self._refused(said)
            return Unknown(f"{said}: {error}"[:MESSAGE_MAX])

    async def lookup(self) -> Finding:
        if not self.form.lookup_path:
            return Unknown("the gateway cannot be asked")
        try:
            reply = await self._send("GET", self.form.lookup_path, b"")
        except (NotReached, NoReply) as error:
            return Unknown(str(error))
        if reply.status == _NOT_THERE:
            return NotFound()
        if not 200 <= reply.status < 300:
            return Unknown(f"the gateway answered {reply.status}")
        try:
            return self._told(_read(reply))
        except _Unclear as error:
            return Unknown(f"the gateway answered {reply.status}: {error}"[:MESSAGE_MAX])

    # ---- writing

    async def _send(self, method: str, path: str, body: bytes) -> Reply:
        """Send a signed request. Raises NotReached, NoReply."""
        for name, value in (
            ("merchant_ref", self.order.merchant_ref),
            ("parent_ref", self.order.parent_ref),
            ("operation", self.operation.value.lower()),
        ):
            path = path.replace(f"{{{name}}}", quote(value, safe=""))
        url = self.access.base_url + path
        target = urlsplit(url).path
        now = self.access.clock.now()
        signature = signatures.of_request(self.access.secret, method, target, body, now)
        headers = {"Accept": "application/json", signatures.SIGNATURE: signature}
        if method == "POST":
            headers["Content-Type"] = "application/json"
            headers[self.form.idempotency_header] = self.order.idempotency_key
        return await self.access.wire.send(method, url, headers, body or None)

    def _body(self) -> bytes:
        order = self.order
        amount: object = order.amount_minor
        if self.form.amounts == "decimal":
            amount = format(to_decimal(Money(order.currency, order.amount_minor)), "f")
        fields = {
            "amount": amount,
            "currency": order.currency,
            "merchant_ref": order.merchant_ref,
            "token": order.token,
            "parent_ref": order.parent_ref,
            "operation": self.operation.value.lower(),
            "closes": order.closes,
        }
        body: dict[str, Any] = {}
        for name, pointer in self.form.request.items():
            if pointer and fields[name] != "":
                JsonPointer(pointer).set(body, fields[name], create=True)
        return json.dumps(body).encode()

    # ---- reading

    def _told(self, answer: Any) -> Settled | Pending:
        """Read what became of the order. Raises _Unclear."""
        word = self._field(answer, "status")
        meaning = self.form.words.get(word.lower()) if isinstance(word, str) else None
        provider_ref = self._text(answer, "id", REF_MAX)
        if meaning == PENDING:
            return Pending(provider_ref)
        if meaning == REFUSED:
            code = self._text(answer, "code", CODE_MAX)
            said = self._text(answer, "message", MESSAGE_MAX)
            return self._refused(f"{code}: {said}" if code else said, code, provider_ref)
        if meaning != DONE:
            raise _Unclear("its status is none of the configured words")
        if not provider_ref:
            raise _Unclear("it names no id")
        currency = self._echoed(answer, "currency", self.order.currency)
        return Settled(
            True,
            provider_ref,
            self._amount(answer, currency),
            currency,
            self._echoed(answer, "merchant_ref", self.order.merchant_ref),
        )

    def _amount(self, answer: Any, currency: str) -> int:
        if not self.form.answer["amount"]:
            return self.order.amount_minor
        given = self._field(answer, "amount")
        if self.form.amounts == "decimal":
            return _minor(given, currency)
        if isinstance(given, bool) or not isinstance(given, int):
            raise _Unclear("its amount is no whole number of minor units")
        return given

    def _echoed(self, answer: Any, name: str, asked: str) -> str:
        if not self.form.answer[name]:
            return asked
        found = self._field(answer, name)
        if not isinstance(found, str):
            raise _Unclear(f"its {name} is no text")
        return found

    def _text(self, answer: Any, name: str, characters_max: int) -> str:
        found = self._field(answer, name)
        if isinstance(found, int) and not isinstance(found, bool):
            found = str(found)
        return sanitized(found, characters_max) if isinstance(found, str) else ""

    def _field(self, answer: Any, name: str) -> Any:
        pointer = self.form.answer[name]
        return _at(answer, pointer) if pointer else None

    def _refused(self, said: str, code: str = "", provider_ref: str = "") -> Settled:
        default = Meaning() if code or provider_ref else Meaning("unknown", "other", retryable=True)
        meaning = self.form.codes.get(code, default)
        return Settled(
            done=False,
            provider_ref=provider_ref,
            amount_minor=self.order.amount_minor,
            currency=self.order.currency,
            merchant_ref=self.order.merchant_ref,
            error_code=meaning.error_code,
            failure_code=meaning.failure_code,
            retryable=meaning.retryable,
            message=said[:MESSAGE_MAX],
        )


def _is_signed(
    config: ProcessorConfig, scheme: str, secrets: Sequence[str], webhook: Webhook, now: datetime
) -> bool:
    if scheme == "standard":
        return signatures.is_standard(webhook, secrets, now)
    return scheme == "hmac" and signatures.is_hmac(
        webhook,
        secrets,
        header=text(config, "webhook.header"),
        prefix=text(config, "webhook.prefix"),
        encoding=text(config, "webhook.encoding"),
    )


def _read(reply: Reply) -> Any:
    """Read an answer's JSON, its decimals exactly. Raises _Unclear."""
    try:
        return json.loads(reply.body, parse_float=Decimal)
    except (ValueError, RecursionError):
        raise _Unclear("it is no JSON") from None


def _at(answer: Any, pointer: str) -> Any:
    """Return what stands at a pointer; None for nothing."""
    if not isinstance(answer, Mapping | list):
        return None
    try:
        return JsonPointer(pointer).resolve(answer, None)
    except JsonPointerException:
        return None


def _minor(given: object, currency: str) -> int:
    """Return a decimal as minor units. Raises _Unclear."""
    try:
        if isinstance(given, bool) or not isinstance(given, str | int | Decimal):
            raise _Unclear("its amount is no number")
        amount = Decimal(given).scaleb(exponent(currency))
        if not amount.is_finite() or amount != amount.to_integral_value():
            raise _Unclear("its amount has more places than the currency")
        return int(amount)
    except (ArithmeticError, UnknownCurrency):
        raise _Unclear("its amount is no number") from None
