"""Card numbers in payment requests: dropped wherever they stand, and what is none passes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf import struct_pb2
from hypothesis import given, settings
from hypothesis import strategies as st
from payments.orchestration.v1 import orchestration_service_pb2 as service_pb

from services.orchestration.app import payments as app
from services.orchestration.domain import config, tree
from services.orchestration.domain.config import MerchantConfig, MethodRule
from services.orchestration.domain.issues import Findings, Severity
from services.orchestration.domain.limits import Limit, Scope
from services.orchestration.domain.processors import ProcessorConfig
from services.orchestration.domain.record import Incoming
from services.orchestration.domain.request import Context, interpret
from services.orchestration.domain.routing import Condition, Fee, Routing, Rule, VolumeSplit
from services.orchestration.messages import incoming
from services.orchestration.store import codec
from services.runtime.cards import holds_card_number
from services.runtime.context import CallContext, acting
from services.runtime.errors import InvalidField

CLEAN = {"merchant_id": "acme", "order_id": "o-1", "currency": "USD", "amount": "12.50"}
CARD = "4242424242424242"
WRITTEN = [
    CARD,
    f"order-{CARD}",
    "4242.4242.4242.4242",
    "4242_4242_4242_4242",
    "4242:4242:4242:4242",
    "4242-4242-4242-4242",
    "o4242424242424242",
    "378282246310005",
    "p:3782.822463.10005",
]


def read_json(**fields: Any) -> Context:
    """Read a request that is clean but for `fields`."""
    findings = Findings()
    return interpret(tree.read(json.dumps(CLEAN | fields).encode(), findings), findings)


def codes(context: Context, *severities: Severity) -> list[str]:
    """Codes of the findings of some severities, all by default."""
    return [i.code for i in context.issues if not severities or i.severity in severities]


def stored(context: Context) -> list[str]:
    """Every text that is stored of a context, and each finding as the contract monitor is told of it."""
    texts = [f"{issue.code}: {issue.message}" for issue in context.issues]

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                texts.append(key)
                walk(item)
        elif isinstance(value, list):
            for item in value:
                walk(item)
        elif isinstance(value, str):
            texts.append(value)

    walk(codec.context_to_json(context))
    return texts


@pytest.mark.parametrize("written", WRITTEN)
def test_in_optional_ids_they_are_dropped(written: str) -> None:
    context = read_json(order_id=written, person_id=written, org_id=written)
    assert not context.refused
    assert (context.order_id, context.person_id, context.org_id) == ("", "anonymous", "")
    assert codes(context, Severity.WARNING) == ["CARD_DATA"] * 3
    assert not any(map(holds_card_number, stored(context)))


@pytest.mark.parametrize("written", WRITTEN)
def test_who_is_paid_must_not_be_one(written: str) -> None:
    context = read_json(merchant_id=written)
    assert (context.merchant_id, codes(context)) == ("", ["CARD_DATA"])
    assert context.refused


@pytest.mark.parametrize(
    ("fields", "severity"),
    [
        ({"method": f"card_{CARD}"}, Severity.ERROR),
        ({"method": CARD}, Severity.ERROR),
        ({"payment_methods": [f"c{CARD}"]}, Severity.ERROR),
        ({"payment_methods": [{"method": "card", "token": f"tok_{CARD}"}]}, Severity.ERROR),
        ({"method": "card", "token": "4242.4242.4242.4242"}, Severity.ERROR),
        ({"method": "card", "token": int(CARD)}, Severity.ERROR),
        ({"idempotency_key": f"key {CARD}"}, Severity.ERROR),
        ({"metadata": {"note": "4242/4242/4242/4242"}}, Severity.WARNING),
        ({"metadata": {"n": int(CARD)}}, Severity.WARNING),
        ({"metadata": {CARD: "x"}}, Severity.WARNING),
        ({"metadata": {f"{'k' * 55}{CARD}": "x"}}, Severity.WARNING),
        ({"metadata": {"note": f"{'v' * 490}{CARD}"}}, Severity.WARNING),
        ({"metadata": {"cvc": "123"}}, Severity.WARNING),
        ({"metadata": {"Card Security-Code": 456}}, Severity.WARNING),
        ({"order_id": int(CARD)}, Severity.WARNING),
        ({"card_number": CARD}, Severity.WARNING),
    ],
)
def test_in_every_field(fields: dict[str, Any], severity: Severity) -> None:
    context = read_json(**fields)
    assert "CARD_DATA" in codes(context, severity)
    assert context.refused == (severity is Severity.ERROR)
    texts = stored(context)
    assert not any(map(holds_card_number, texts))
    assert not any(part in text for text in texts for part in ("4242424242", "123", "456"))


@pytest.mark.parametrize(
    "name", [CARD, f"card {CARD}", f"{'x' * 55}{CARD}", f"{'x' * 195}{CARD}", "4242.4242.4242.4242"]
)
def test_in_names_of_fields(name: str) -> None:
    context = read_json(**{name: 1}, payment_methods=[{"method": "card", name: 1}])
    assert not context.refused
    assert codes(context) == ["UNKNOWN_FIELD"] * 2
    assert not any("4242" in text for text in stored(context))


SEPARATORS = st.text(" .-_/:,;|+*'()\t\n\u00a0\u2009\u200b\u2013\u3000", max_size=3)
PLACES = st.sampled_from(
    [
        "merchant_id",
        "order_id",
        "person_id",
        "org_id",
        "method",
        "token",
        "idempotency_key",
        "currency",
        "metadata",
        "metadata key",
        "name",
    ]
)


@settings(deadline=None)
@given(
    st.sampled_from([CARD, "5555555555554444", "378282246310005", "6759649826438453"]),
    st.lists(SEPARATORS, min_size=16, max_size=16),
    st.text("abk-_.: ", max_size=70),
    PLACES,
)
def test_none_survives(number: str, between: list[str], before: str, place: str) -> None:
    text = before + "".join(
        digit + gap for digit, gap in zip(number, between[: len(number)], strict=True)
    )
    fields: dict[str, Any] = {place: text}
    if place == "metadata":
        fields = {place: {"note": text}}
    elif place == "metadata key":
        fields = {"metadata": {text: "x"}}
    elif place == "name":
        fields = {text: "x"}
    context = read_json(**fields)
    kept = stored(context)
    assert not any(map(holds_card_number, kept))
    # Nor the first digits of one that was cut.
    assert max(sum(map(str.isdigit, text)) for text in kept) < 12


@pytest.mark.parametrize(
    "value",
    [
        "1764363194002",
        "01KB5GZK4V9W4XABCDEFGHJKMN",
        "0190c1de-5123-7456-8901-423456789012",
        "20261128000123456",
        "8415698462516992",
        "4242424242424241",
        "100000000000000017",
        "507f1f77bcf86cd799439011",
    ],
)
def test_other_numbers_pass(value: str) -> None:
    context = read_json(
        order_id=value,
        person_id=value,
        org_id=value,
        method="card",
        token=value,
        metadata={value: value},
        idempotency_key=value,
    )
    assert (codes(context), context.refused) == ([], False)
    ids = (context.order_id, context.person_id, context.org_id, context.body_key)
    assert ids == (value,) * 4
    assert context.preferences[0].token == value
    assert context.metadata == ((value, value),)
    assert read_json(merchant_id=value).merchant_id == value


# ---- keys


def _read(body: bytes, key: str = "", header: str = "") -> Incoming:
    request = service_pb.CreatePaymentRequest(raw_request=body, request_id=key)
    call = CallContext("t", "p", frozenset(), "r", "c", idempotency_key=header)
    with acting(call):
        return incoming.read(request, key)


def _key(body: bytes, key: str = "", header: str = "") -> tuple[str, Findings]:
    found = _read(body, key, header)
    return app.request_key(found, interpret(found.tree, found.findings)), found.findings


BODY = json.dumps(CLEAN).encode()


@pytest.mark.parametrize("key", [CARD, f"order {CARD}", "4242 4242 4242 4242"])
def test_a_key_that_is_a_card_number_charges_nothing(key: str) -> None:
    """No id is derived from it: whoever sees a plain hash can try all card numbers."""
    name, findings = _key(BODY, key)
    assert findings.refused
    assert [issue.code for issue in findings.issues] == ["CARD_DATA"]
    assert name == _key(BODY, "5555555555554444")[0], "the key says nothing about the card"
    assert name == _key(BODY, header=key)[0] == _key(BODY, key)[0], "a repeat is recognised"
    assert name != _key(BODY.replace(b"12.50", b"1.00"), key)[0]
    # Sent again as it should be, it is a payment of its own.
    assert name != _key(BODY)[0]


def test_a_key_in_the_body_that_is_a_card_number_charges_nothing() -> None:
    body = json.dumps(CLEAN | {"idempotency_key": CARD}).encode()
    name, findings = _key(body)
    assert [issue.code for issue in findings.issues] == ["CARD_DATA"]
    assert findings.refused
    assert name == _key(body)[0]


def test_in_a_struct() -> None:
    struct = struct_pb2.Struct()
    struct.update(CLEAN | {"order_id": int(CARD), "metadata": {"n": float(CARD)}})
    request = service_pb.CreatePaymentRequest(external_request=struct)
    with acting(CallContext("t", "p", frozenset(), "r", "c")):
        found = incoming.read(request)
    context = interpret(found.tree, found.findings)
    assert codes(context, Severity.WARNING) == ["CARD_DATA", "CARD_DATA"]
    assert not any(map(holds_card_number, stored(context)))


def test_configurations_hold_none() -> None:
    rules = (
        MethodRule("card", None, ("sandbox-card",)),
        MethodRule(f"c{CARD}", None, ("sandbox-card",)),
    )
    with pytest.raises(InvalidField) as refused:
        config.check(MerchantConfig(f"m-{CARD}", 0, rules), {"sandbox-card"})
    told = str(refused.value) + str(refused.value.fields)
    assert "config.merchant_id" in told
    assert "config.methods[1].method" in told
    assert CARD not in told


def own(
    processor_id: str, adapter: str, base_url: str = "", credential_ref: str = "", **settings: str
) -> dict[str, Any]:
    """A configuration with a processor of its own."""
    named = tuple(settings.items())
    return {
        "processors": (ProcessorConfig(processor_id, adapter, base_url, credential_ref, named),)
    }


def ruled(**parts: Any) -> dict[str, Any]:
    """A configuration with a rule."""
    return {"routing": Routing((Rule(**{"name": "r", "methods": ("card",)} | parts),))}


SPLIT = VolumeSplit(((CARD, 1),))
IN_CONFIGS: list[tuple[str, dict[str, Any]]] = [
    ("rules[0].name", ruled(name=f"r{CARD}")),
    ("rules[0].methods", ruled(methods=(CARD,))),
    ("rules[0].when.regions", ruled(when=Condition(regions=(CARD,)))),
    ("rules[0].when.metadata", ruled(when=Condition(metadata=((CARD, ("a",)),)))),
    ("rules[0].when.metadata", ruled(when=Condition(metadata=(("k", ("a", CARD)),)))),
    ("rules[0].route.processor_ids", ruled(processors=("sandbox-card", CARD))),
    ("rules[0].route.strategy.volume_split.shares", ruled(strategy=SPLIT)),
    ("regions[0].name", {"routing": Routing(regions=(("4242-4242-4242-4242", ("DE",)),))}),
    ("fees[0].processor_id", {"routing": Routing(fees=(Fee(CARD),))}),
    ("fees[0].method", {"routing": Routing(fees=(Fee("sandbox-card", f"c{CARD}"),))}),
    ("limits[0].name", {"limits": (Limit(f"l:{CARD}", Scope.MERCHANT, 60, 5),)}),
    ("processors[0].processor_id", own(CARD, "sandbox")),
    ("processors[0].adapter", own("own", f"a{CARD}")),
    ("processors[0].base_url", own("own", "sandbox", f"https://pay.example.com/{CARD}")),
    ("processors[0].credential_ref", own("own", "sandbox", "", CARD)),
    ("processors[0].settings[key]", own("own", "sandbox", key="4111 1111 1111 1111")),
    ("processors[0].settings", own("own", "sandbox", **{CARD: CARD})),
    ("methods[0].processor_id", {"methods": (MethodRule("card", None, (CARD,)),)}),
    (
        "methods[0].fallback_processor_ids",
        {"methods": (MethodRule("card", None, ("sandbox-card", CARD)),)},
    ),
    (
        "methods[0].strategy.volume_split.shares",
        {"methods": (MethodRule("card", None, ("sandbox-card",), SPLIT),)},
    ),
]


@pytest.mark.parametrize(("place", "part"), IN_CONFIGS)
def test_no_text_of_a_configuration_holds_one(place: str, part: dict[str, Any]) -> None:
    """Nor does the refusal, which is stored: others would repeat the name."""
    wanted = MerchantConfig("m-1", 0, (MethodRule("card", None, ("sandbox-card",)),))
    config.check(wanted, {"sandbox-card"}, {"sandbox"})
    with pytest.raises(InvalidField) as refused:
        config.check(replace(wanted, **part), {"sandbox-card"}, {"sandbox"})
    told = {(field.field, field.description) for field in refused.value.fields}
    assert told == {(f"config.{place}", "must not hold a card number")}
    assert not holds_card_number(str(refused.value) + str(refused.value.fields))
