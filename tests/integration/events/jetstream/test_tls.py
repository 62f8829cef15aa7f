"""Encrypted, with certificates on both sides."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from services.runtime.events.jetstream import broker, look_at
from tests.support.jetstream import nats
from tests.support.jetstream.sites import options

TLS = """
tls {{ cert_file: "{0}/server.pem", key_file: "{0}/server.key", ca_file: "{0}/ca.pem", verify: true }}
"""


def _certify(folder: Path, name: str, issuer: str) -> None:
    """Write `<name>.pem` and `<name>.key`, signed with the key of `issuer`."""
    key = ec.generate_private_key(ec.SECP256R1())
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    signer = serialization.load_pem_private_key((folder / f"{issuer}.key").read_bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(_named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=name == issuer, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .sign(signer, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (folder / f"{name}.pem").write_bytes(pem)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


async def test_certificates_are_checked_on_both_sides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, issuer in (("ca", "ca"), ("server", "ca"), ("client", "ca")):
        _certify(tmp_path, name, issuer)
    files = {
        "ca_file": tmp_path / "ca.pem",
        "cert_file": tmp_path / "client.pem",
        "key_file": tmp_path / "client.key",
    }
    monkeypatch.setattr(broker, "CONNECT_SECONDS", 2.0)
    with nats.serving(tmp_path / "nats", authorization=TLS.format(tmp_path)) as server:
        url = server.url.replace("nats://", "tls://")
        ok, told = await look_at(options(url, "east", **files))
        assert (ok, told.startswith("NATS ")) == (True, True), told
        ok, told = await look_at(options(url, "east"))
        assert not ok
        assert "certificate verify failed" in told
        ok, told = await look_at(options(url, "east", ca_file=files["ca_file"]))
        assert not ok
