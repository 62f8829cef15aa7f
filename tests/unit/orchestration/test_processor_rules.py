"""Processors' own minor units, what a configuration may say of them, credentials, and Stripe's codes."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from services.orchestration.adapters.credentials import CredentialDamaged, Credentials, parse
from services.orchestration.adapters.stripe.errors import REFUSALS, refusal
from services.orchestration.adapters.wire import url_fault
from services.orchestration.domain.minor_units import ISO_4217, STRIPE, NotExpressible
from services.orchestration.domain.operations import Operation
from services.orchestration.domain.processors import Capabilities, ProcessorConfig, check
from services.orchestration.domain.webhooks import NAMED_MAX, attempts_named
from services.runtime.addresses import AllowList
from services.runtime.context import CallContext, acting

CURRENCIES = st.sampled_from(["USD", "JPY", "KWD", "ISK", "UGX", "MGA", "TND", "HUF", "CLP"])
NOBODY = AllowList()
SECRET = "sk_live_do_not_show"


@given(st.integers(0, 10**15), CURRENCIES)
def test_an_amount_comes_back_as_it_went_or_does_not_go(amount_minor: int, currency: str) -> None:
    assert ISO_4217.to_processor(amount_minor, currency) == amount_minor
    try:
        there = STRIPE.to_processor(amount_minor, currency)
    except NotExpressible:
        assert STRIPE.fault(amount_minor, currency)
        return
    assert STRIPE.from_processor(there, currency) == amount_minor


@pytest.mark.parametrize(
    ("currency", "amount_minor", "there"),
    [
        ("USD", 1234, 1234),
        ("JPY", 500, 500),
        ("ISK", 5, 500),
        ("UGX", 5, 500),
        ("MGA", 500, 5),
        ("MGA", 501, None),
        ("KWD", 1230, 1230),
        ("KWD", 1234, None),
    ],
)
def test_stripe_counts_by_its_own_table(
    currency: str, amount_minor: int, there: int | None
) -> None:
    if there is None:
        assert "multiple of 10" in STRIPE.fault(amount_minor, currency)
    else:
        assert STRIPE.to_processor(amount_minor, currency) == there


def test_what_is_too_little_is_not_taken_and_can_be_given_back() -> None:
    able = Capabilities(timedelta(0), holds=False, min_amount_minor={"USD": 50})
    assert "50" in able.refusal(Operation.CHARGE, 49, "USD")
    assert able.refusal(Operation.CHARGE, 50, "USD") == ""
    assert able.refusal(Operation.REFUND, 1, "USD") == ""
    assert "at once" in able.refusal(Operation.AUTHORIZE, 50, "USD")


def faults(*processors: ProcessorConfig) -> list[str]:
    found = check(processors, {"sandbox-card"}, {"stripe", "sandbox"})
    return [each.field.removeprefix("config.") for each in found]


def test_a_configuration_of_processors_is_refused_by_field() -> None:
    assert faults(ProcessorConfig("s", "stripe")) == []
    assert faults(ProcessorConfig("sandbox-card", "sandbox")) == ["processors[0].processor_id"]
    twice = ProcessorConfig("s", "stripe"), ProcessorConfig("s", "sandbox")
    assert faults(*twice) == ["processors[1].processor_id"]
    assert faults(ProcessorConfig("s", "adyen")) == ["processors[0].adapter"]
    pasted = ProcessorConfig("s", "stripe", settings=(("key", SECRET),))
    assert faults(pasted) == ["processors[0].settings[key]"]
    named = ProcessorConfig("s", "stripe", credential_ref="sk_live_do_not_show")
    assert faults(named) == ["processors[0].credential_ref"], "a name, not the secret itself"


@pytest.mark.parametrize(
    "url",
    [
        "http://pay.example.com",
        "https://127.0.0.1",
        "https://169.254.169.254/latest",
        "https://[::ffff:10.0.0.1]",
        "https://user:pass@pay.example.com",
        "https://pay.example.com/?key=1",
        "https://pay.example.com/#x",
        "ftp://pay.example.com",
        "pay.example.com",
        "https://",
        "",
        "https://pay.example.com:99999",
    ],
)
def test_a_base_url_that_leads_inside_is_refused(url: str) -> None:
    assert url_fault(url, NOBODY)


def test_a_base_url_may_be_public_or_listed() -> None:
    assert url_fault("https://api.stripe.com", NOBODY) == ""
    assert url_fault("https://pay.example.com:8443/api", NOBODY) == ""
    listed = AllowList.parse("127.0.0.1:8420, gateway.internal")
    assert url_fault("http://127.0.0.1:8420", listed) == ""
    assert url_fault("http://127.0.0.1:8421", listed)
    assert url_fault("http://gateway.internal/pay", listed) == ""


def find(credentials: Credentials, tenant: str, name: str) -> str | None:
    with acting(CallContext(tenant, "test", frozenset(), "r", "c")):
        found = credentials.find(name)
    return found.secret.get_secret_value() if found else None


def test_a_credential_is_its_tenants_alone_and_can_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "acme").mkdir()
    file = tmp_path / "acme" / "live.json"
    file.write_text(json.dumps({"secret": "one"}))
    credentials = Credentials(SecretStr(json.dumps({"beta/live": {"secret": SECRET}})), tmp_path)
    assert find(credentials, "acme", "live") == "one"
    assert find(credentials, "beta", "live") == SECRET
    for tenant, name in (("beta", "other"), ("gamma", "live"), ("..", "live"), ("acme", "../acme")):
        assert find(credentials, tenant, name) is None
    file.write_text(json.dumps({"secret": "two"}))
    assert find(credentials, "acme", "live") == "two"
    file.unlink()
    assert find(credentials, "acme", "live") is None


@pytest.mark.parametrize("kept", [SECRET, '{"a/b": 1}', f'{{"a/b": {{"key": "{SECRET}"}}}}', "[]"])
def test_what_is_no_credential_is_refused_without_being_shown(kept: str) -> None:
    with pytest.raises(CredentialDamaged) as refused:
        parse(kept)
    assert SECRET not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize("around", ["{}\\n", " {}", "{}\\r\\nX-Key: 1", "{}\\u0000"])
@pytest.mark.parametrize("place", ['"secret": "{}"', '"secret": "a", "webhook_secrets": ["{}"]'])
def test_a_secret_that_no_call_could_carry_is_no_credential(around: str, place: str) -> None:
    kept = f'{{"a/b": {{{place.format(around.format(SECRET))}}}}}'
    with pytest.raises(CredentialDamaged) as refused:
        parse(kept)
    assert "a/b" in str(refused.value)
    assert SECRET not in str(refused.value)


def test_a_file_that_is_no_text_is_no_credential(tmp_path: Path) -> None:
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme" / "live.json").write_bytes(json.dumps({"secret": SECRET}).encode("utf-16"))
    with pytest.raises(CredentialDamaged) as refused:
        find(Credentials(SecretStr(""), tmp_path), "acme", "live")
    assert refused.value.__cause__ is None


def test_no_secret_is_shown() -> None:
    found = parse(json.dumps({"a/b": {"secret": SECRET, "webhook_secrets": [SECRET]}}))
    assert SECRET not in repr(found)


WORDS = {"declined", "invalid_card", "network_failure", "timeout", "unknown"}
FINER = {"declined", "insufficient_funds", "expired_card", "timeout", "other"}


def test_every_code_of_stripe_has_a_word_of_ours() -> None:
    assert {each.error_code for each in REFUSALS.values()} <= WORDS
    assert {each.failure_code for each in REFUSALS.values()} <= FINER
    for code in ("fraudulent", "stolen_card", "lost_card", "pickup_card", "do_not_try_again"):
        assert not REFUSALS[code].retryable, "nobody takes suspected fraud elsewhere"


@pytest.mark.parametrize(
    ("codes", "raw", "error_code", "failure_code", "retryable"),
    [
        (("insufficient_funds", "card_declined"), "insufficient_funds", "declined", "insufficient_funds", False),
        ((None, "expired_card"), "expired_card", "invalid_card", "expired_card", False),
        (("issuer_not_available", "card_declined"), "issuer_not_available", "declined", "declined", True),
        (("never_heard_of", "card_declined"), "card_declined", "declined", "declined", False),
        (("never_heard_of", None), "never_heard_of", "unknown", "other", True),
        ((None, None), "no code", "unknown", "other", True),
        ((None, "incorrect_cvc"), "incorrect_cvc", "invalid_card", "other", False),
    ],
)  # fmt: skip
def test_the_finer_code_of_stripe_counts(
    codes: tuple[str | None, ...], raw: str, error_code: str, failure_code: str, retryable: bool
) -> None:
    found, meaning = refusal(*codes)
    assert found == raw
    told = (meaning.error_code, meaning.failure_code, meaning.retryable)
    assert told == (error_code, failure_code, retryable)


def test_only_whole_references_are_named_each_once_and_so_many() -> None:
    ours = [f"att_{number:08x}-0000-7000-8000-000000000000" for number in range(NAMED_MAX + 5)]
    around = [f"x{ours[0]}", f"{ours[1]}0", ours[2].upper(), ours[3][:-1], "att_1"]
    body = json.dumps([*around, ours[5], ours[4], ours[5]]).encode() + b"\xff"
    assert attempts_named(body) == [ours[5], ours[4]]
    assert attempts_named(json.dumps(ours).encode()) == ours[:NAMED_MAX]
    assert attempts_named(f"ref={ours[0]}&amount=1".encode()) == ours[:1]
