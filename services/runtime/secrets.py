"""Secrets that must be read back (webhook signing, processors), encrypted under a key from outside the database.

Envelope encryption: each secret has a data key of its own, by AES-256-GCM, and the data key lies beside it, encrypted
under a key of the setting TOLLMESH_SECRETS_KEYS. The first key of the setting seals, all of them open, so a
key is replaced by putting the new one in front. What is sealed names its key and is bound to its place (`context`): a
row that was copied to another place does not open there.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.runtime.errors import Code, DomainError

SETTING = "TOLLMESH_SECRETS_KEYS"
KEY_BYTES = 32
KEYS_MAX = 16

_FORMAT = b"\x01"
_KEY_ID_BYTES = 4
_NONCE_BYTES = 12
_TAG_BYTES = 16
_WRAPPED_BYTES = _NONCE_BYTES + KEY_BYTES + _TAG_BYTES


class SecretsKeyMissing(DomainError):
    """No key was set, or not the one that a secret was sealed under. Setting it mends that, so it is transient."""

    code = Code.UNAVAILABLE
    reason = "SECRETS_KEY_MISSING"
    state_dependent = True
    setting: str
    key_id: str | None = None


class SecretDamaged(Exception):
    """A sealed secret was changed, cut off, or belongs to another place."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key-encryption key.

    Attributes:
        key_id: 8 hexadecimal digits that tell it from others; follows from the key.
    """

    key_id: str
    cipher: AESGCM

    @classmethod
    def of(cls, key: bytes) -> Key:
        """Make it from its 32 bytes."""
        digest = hashlib.sha256(b"tollmesh secrets key id\0" + key).digest()
        return cls(digest[:_KEY_ID_BYTES].hex(), AESGCM(key))


def new_key() -> str:
    """Make a key in the form of the setting."""
    return base64.b64encode(os.urandom(KEY_BYTES)).decode()


def parse_keys(setting: str) -> tuple[Key, ...]:
    """Read the setting: keys of 32 bytes in Base64, separated by commas or lines, the one that seals first.

    Raises:
        ValueError: one is no such key; the message never repeats it.
    """
    texts = setting.replace(",", " ").split()
    if len(texts) > KEYS_MAX:
        raise ValueError(f"{len(texts)} keys; the limit is {KEYS_MAX}")
    return tuple(Key.of(_key_bytes(number, text)) for number, text in enumerate(texts, start=1))


def _key_bytes(number: int, text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError(
            f"key {number} is not {KEY_BYTES} bytes in Base64; create one with `openssl rand -base64 32`"
        )
    return key


class SecretBox:
    """Seals and opens secrets. Without keys it can be made, and fails at its first use."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self._keys = {key.key_id: key for key in keys}
        self._first = keys[0] if keys else None

    def seal(self, secret: bytes, context: str) -> bytes:
        """Encrypt a secret for one place, e.g. `events.webhook_secret/t-1/whs_…`.

        Raises:
            SecretsKeyMissing: no key was set.
        """
        if self._first is None:
            raise SecretsKeyMissing(
                f"secrets cannot be stored: set {SETTING} to 32 random bytes in Base64 "
                "(`openssl rand -base64 32`), the same for every process of the service",
                setting=SETTING,
            )
        data_key = AESGCM.generate_key(8 * KEY_BYTES)
        bound = context.encode()
        head = _FORMAT + bytes.fromhex(self._first.key_id)
        return (
            head
            + _encrypted(self._first.cipher, data_key, head + bound)
            + _encrypted(AESGCM(data_key), secret, bound)
        )

    def open(self, sealed: bytes, context: str) -> bytes:
        """Decrypt a secret of a place.

        Raises:
            SecretsKeyMissing: the key that it was sealed under is not set.
            SecretDamaged: it was changed, or belongs elsewhere.
        """
        head = sealed[: len(_FORMAT) + _KEY_ID_BYTES]
        if not sealed.startswith(_FORMAT) or len(sealed) < len(head) + _WRAPPED_BYTES:
            raise SecretDamaged("not in a known format")
        key_id = key_id_of(sealed)
        key = self._keys.get(key_id)
        if key is None:
            raise SecretsKeyMissing(
                f"a secret is encrypted with key {key_id}, which is not in {SETTING}: add it after the first",
                setting=SETTING,
                key_id=key_id,
            )
        rest, bound = sealed[len(head) :], context.encode()
        data_key = _decrypted(key.cipher, rest[:_WRAPPED_BYTES], head + bound)
        return _decrypted(AESGCM(data_key), rest[_WRAPPED_BYTES:], bound)


def key_id_of(sealed: bytes) -> str:
    """Return the id of the key that a secret was sealed under, to know which may be taken out of the setting."""
    return sealed[len(_FORMAT) : len(_FORMAT) + _KEY_ID_BYTES].hex()


def _encrypted(cipher: AESGCM, plain: bytes, bound: bytes) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + cipher.encrypt(nonce, plain, bound)


def _decrypted(cipher: AESGCM, box: bytes, bound: bytes) -> bytes:
    try:
        return cipher.decrypt(box[:_NONCE_BYTES], box[_NONCE_BYTES:], bound)
    except (InvalidTag, ValueError) as error:
        raise SecretDamaged("it was changed, or belongs to a different record") from error
