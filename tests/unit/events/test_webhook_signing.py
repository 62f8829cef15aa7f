"""Signatures, checked by others' code: the library of Standard Webhooks for v1, another implementation for v1a."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook

from services.events.domain import webhooks_signing as signing
from services.events.domain.webhooks import Signing
from services.events.domain.webhooks_signing import SigningKey

AT = datetime(2021, 2, 25, 15, 2, 10, 999_999, tzinfo=UTC)


def hmac_key(secret: str) -> SigningKey:
    return SigningKey(Signing.HMAC, base64.b64decode(secret.removeprefix("whsec_")))


def test_the_example_that_the_specifications_libraries_share() -> None:
    key = hmac_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    found = signing.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", AT, b'{"test": 2432232314}', [key])
    assert found == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@given(
    st.binary(min_size=24, max_size=64), st.text(max_size=200), st.text(min_size=1, max_size=128)
)
def test_the_library_accepts_what_we_sign(key: bytes, text: str, event_id: str) -> None:
    ours = SigningKey(Signing.HMAC, key)
    headers = signing.headers(event_id, datetime.now(UTC), text.encode(), [ours])
    Webhook(signing.verification_key(ours)).verify(text, headers, json_parse=False)


def test_every_key_signs() -> None:
    old, new = (SigningKey(Signing.HMAC, bytes([n]) * 32) for n in (1, 2))
    headers = signing.headers("e", datetime.now(UTC), b"{}", [new, old])
    assert len(headers["webhook-signature"].split(" ")) == 2
    for key in (old, new):
        Webhook(signing.verification_key(key)).verify("{}", headers)


def test_ed25519_is_checked_with_the_public_key_alone() -> None:
    key = SigningKey(Signing.ED25519, bytes(range(32)))
    headers = signing.headers("e1", AT, b"body", [key])
    version, _, signature = headers["webhook-signature"].partition(",")
    assert version == "v1a"
    shown = signing.verification_key(key)
    raw = base64.b64decode(shown.removeprefix("whpk_"))
    # JOSE's implementation, which knows nothing of ours.
    public = jwt.PyJWK(
        {"kty": "OKP", "crv": "Ed25519", "x": base64.urlsafe_b64encode(raw).decode().rstrip("=")}
    )
    verify = jwt.algorithms.OKPAlgorithm().verify
    sent = base64.b64decode(signature)
    assert verify(b"e1.1614265330.body", public.key, sent)
    assert not verify(b"e1.1614265331.body", public.key, sent)
    assert base64.b64encode(key.key).decode() not in shown


@pytest.mark.parametrize(
    "event_id", ["a.b", "a b", "é", "x\r\nevil: 1", "", "a,b", "\0", "\N{LINE SEPARATOR}"]
)
def test_an_id_that_cannot_travel_goes_as_a_digest(event_id: str) -> None:
    sent = signing.message_id(event_id)
    assert sent.startswith("evt_")
    assert sent.isascii() and sent.replace("_", "").isalnum()
    assert sent == signing.message_id(event_id)


@pytest.mark.parametrize("event_id", ["01M7WFQRG9K0R1ENHXRK9ZQ5BA", "order-1", "a:b_c", "x" * 128])
def test_a_plain_id_travels_as_it_is(event_id: str) -> None:
    assert signing.message_id(event_id) == event_id


def test_a_key_does_not_show_in_texts() -> None:
    key = SigningKey(Signing.HMAC, b"k" * 32)
    assert "k" * 5 not in f"{key!r} {key}"


def test_the_receiver_of_the_guide_takes_what_we_send_and_refuses_all_else() -> None:
    guide = (Path(__file__).parents[3] / "docs/guides/webhooks.md").read_text()
    code = guide.partition("```python\n")[2].partition("```")[0]
    key = SigningKey(Signing.HMAC, b"k" * 32)
    seen: set[str] = set()

    def remember(sent_id: str) -> bool:
        new = sent_id not in seen
        seen.add(sent_id)
        return new

    scope: dict[str, Any] = {"remember": remember}
    exec(code.replace("whsec_…", signing.verification_key(key)), scope)
    receive = scope["receive"]
    headers = signing.headers("e1", datetime.now(UTC), b"{}", [key])
    assert [receive(b"{}", headers), receive(b"{}", headers)] == [204, 200]
    assert receive(b"{ }", headers) == 401
    assert receive(b"{}", {**headers, "webhook-signature": "nonsense"}) == 401
    assert receive(b"{}", {}) == 401
