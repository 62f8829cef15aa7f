"""Signed heads: what the newest block of a chain was, stated in a way that can be kept elsewhere. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from datetime import datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from services.ledger.domain.chain import VERSION, Block, canonical, microseconds

KEY_BYTES = 32
_KEY_ID_DIGITS = 16


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key that signs the heads of a tenant.

    Attributes:
        key_no: from 1; the highest signs.
        private: its 32 bytes; never shown.
    """

    key_no: int
    private: bytes = field(repr=False)

    @property
    def public(self) -> bytes:
        """The 32 bytes that verify what it signed."""
        key = Ed25519PrivateKey.from_private_bytes(self.private)
        return key.public_key().public_bytes_raw()

    @property
    def key_id(self) -> str:
        """Tells it from others; follows from the public key."""
        return key_id_of(self.public)


@dataclass(frozen=True, slots=True)
class LedgerHead:
    """A block that was the newest of a chain, signed.

    Attributes:
        transfer_count: how many transfers there were up to this block.
        public_key: verifies the signature.
    """

    tenant_id: str
    block_no: int
    hash: bytes
    transfer_count: int
    signed_at: datetime
    key_id: str
    public_key: bytes
    signature: bytes = b""

    @property
    def signed_text(self) -> str:
        """What is signed: one line of JSON."""
        return canonical(
            {
                "version": VERSION,
                "tenant_id": self.tenant_id,
                "block_no": self.block_no,
                "hash": self.hash.hex(),
                "transfer_count": self.transfer_count,
                "signed_at_us": microseconds(self.signed_at),
                "key_id": self.key_id,
                "public_key": self.public_key.hex(),
            }
        )

    @property
    def is_signed(self) -> bool:
        """True when the signature is that of its public key over what it says."""
        try:
            key = Ed25519PublicKey.from_public_bytes(self.public_key)
            key.verify(self.signature, self.signed_text.encode())
        except (InvalidSignature, ValueError):
            return False
        return True


def key_id_of(public_key: bytes) -> str:
    """Return the id of a public key."""
    return hashlib.sha256(public_key).hexdigest()[:_KEY_ID_DIGITS]


def signed(tenant_id: str, block: Block, key: SigningKey, now: datetime) -> LedgerHead:
    """State that a block is the newest."""
    head = LedgerHead(
        tenant_id=tenant_id,
        block_no=block.block_no,
        hash=block.hash,
        transfer_count=block.transfer_total,
        signed_at=now,
        key_id=key.key_id,
        public_key=key.public,
    )
    signature = Ed25519PrivateKey.from_private_bytes(key.private).sign(head.signed_text.encode())
    return replace(head, signature=signature)
