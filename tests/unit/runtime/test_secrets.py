"""Secrets at rest: sealed under a key from outside the database."""

from __future__ import annotations

import base64

import pytest

from services.runtime.config import Settings, SettingsUnfit
from services.runtime.secrets import (
    SecretBox,
    SecretDamaged,
    SecretsKeyMissing,
    key_id_of,
    new_key,
    parse_keys,
)

PLACE = "events.webhook_secret/t/e/s"


def box(*keys: str) -> SecretBox:
    return SecretBox(parse_keys(",".join(keys)))


def test_what_was_sealed_opens_and_shows_nothing() -> None:
    secret = b"a secret that must not be seen"
    sealing = box(new_key())
    sealed = sealing.seal(secret, PLACE)
    assert sealing.open(sealed, PLACE) == secret
    assert secret not in sealed
    assert sealing.seal(secret, PLACE) != sealed, "each sealing has keys of its own"


def test_a_key_is_replaced_by_putting_the_new_one_in_front() -> None:
    old, new = new_key(), new_key()
    sealed = box(old).seal(b"x", PLACE)
    both = box(new, old)
    assert both.open(sealed, PLACE) == b"x"
    again = both.seal(b"x", PLACE)
    assert key_id_of(again) == parse_keys(new)[0].key_id
    assert box(new).open(again, PLACE) == b"x"


def test_without_its_key_it_says_which_is_missing_and_where_to_set_it() -> None:
    sealed = box(new_key()).seal(b"x", PLACE)
    with pytest.raises(SecretsKeyMissing, match="TOLLMESH_SECRETS_KEYS") as missing:
        box(new_key()).open(sealed, PLACE)
    assert missing.value.metadata["key_id"] == key_id_of(sealed)
    assert missing.value.transient, "no refusal that is kept: setting the key mends it"


def test_without_any_key_it_fails_at_the_first_use() -> None:
    empty = box()
    with pytest.raises(SecretsKeyMissing, match="TOLLMESH_SECRETS_KEYS"):
        empty.seal(b"x", PLACE)


def test_in_another_place_it_does_not_open() -> None:
    sealing = box(new_key())
    with pytest.raises(SecretDamaged):
        sealing.open(sealing.seal(b"x", PLACE), PLACE + "2")


def test_no_changed_or_shortened_byte_goes_unnoticed() -> None:
    sealing = box(new_key())
    sealed = sealing.seal(b"secret", PLACE)
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises((SecretDamaged, SecretsKeyMissing)):
            sealing.open(bytes(changed), PLACE)
        with pytest.raises(SecretDamaged):
            sealing.open(sealed[:place], PLACE)


@pytest.mark.parametrize("bad", ["short", base64.b64encode(b"x" * 31).decode(), "ä" * 44])
def test_a_key_that_is_none_is_refused_without_being_repeated(
    bad: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="key 2 is not 32 bytes") as refused:
        parse_keys(f"{new_key()} {bad}")
    assert bad not in str(refused.value)
    monkeypatch.setenv("TOLLMESH_SECRETS_KEYS", bad)
    with pytest.raises(SettingsUnfit, match="TOLLMESH_SECRETS_KEYS") as unfit:
        Settings.load()
    assert bad not in str(unfit.value)


def test_keys_are_bounded() -> None:
    with pytest.raises(ValueError, match="limit is 16"):
        parse_keys(",".join(new_key() for _ in range(17)))
