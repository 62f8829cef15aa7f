"""The sender alone, against receivers on this machine: where it connects, what it refuses, what it keeps."""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
import tempfile
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from services.events.adapters.webhooks_sender import RESPONSE_BYTES_MAX, Sender
from services.events.domain.webhooks import Answer, Outcome
from services.runtime.addresses import Address, AllowList
from tests.support.webhooks.lab import Receiver, answering, receiving

HEADERS = {"webhook-id": "e1", "Content-Type": "application/json"}
LOCAL = AllowList.parse("127.0.0.1/32")


class Names:
    """A name server: answers each question with the next of the lists that a name was given."""

    def __init__(self, **answers: Sequence[str]) -> None:
        self._answers = {name.replace("_", "."): list(found) for name, found in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[Address]:
        self.asked.append(host)
        answers = self._answers[host]
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return [ip_address(text) for text in found.split()]


async def send(sender: Sender, url: str, body: bytes = b"{}") -> Answer:
    try:
        return await sender.send(url, HEADERS, body)
    finally:
        await sender.close()


async def test_a_request_arrives_as_it_was_made(receiver: Receiver) -> None:
    receiver.behaviour = answering(201, "thanks")
    answer = await send(Sender(LOCAL), receiver.url + "?a=1%2F2", b'{"x": 1}')
    assert (answer.outcome, answer.status_code, answer.response) == (
        Outcome.SUCCEEDED,
        201,
        "thanks",
    )
    (received,) = receiver.received
    assert (received.path, received.body) == ("/hook?a=1%2F2", b'{"x": 1}')
    assert received.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert received.headers["webhook-id"] == "e1"
    assert "accept-encoding" not in received.headers


async def test_without_the_operators_word_nothing_reaches_this_machine(receiver: Receiver) -> None:
    url = f"https://127.0.0.1:{receiver.port}/"
    answer = await send(Sender(AllowList()), url)
    assert answer.outcome is Outcome.BLOCKED
    assert "not public" in answer.error
    assert receiver.received == []


@pytest.mark.parametrize(
    "host", ["[::ffff:127.0.0.1]", "[::1]", "[::ffff:7f00:1]", "169.254.169.254"]
)
async def test_literal_addresses_do_not_get_past_the_check(host: str) -> None:
    assert (await send(Sender(AllowList()), f"https://{host}:8443/")).outcome is Outcome.BLOCKED


@pytest.mark.parametrize("host", ["2130706433", "127.1", "0x7f.1", "017700000001"])
async def test_nor_do_other_spellings(host: str) -> None:
    assert (await send(Sender(AllowList()), f"https://{host}:8443/")).outcome is Outcome.BLOCKED


async def test_the_systems_resolver_is_checked_too(receiver: Receiver) -> None:
    answer = await send(Sender(AllowList()), f"https://localhost:{receiver.port}/")
    assert answer.outcome is Outcome.BLOCKED
    answer = await send(
        Sender(AllowList.parse("localhost")), receiver.url.replace("127.0.0.1", "localhost")
    )
    assert answer.outcome is Outcome.SUCCEEDED
    assert receiver.received[0].headers["host"] == f"localhost:{receiver.port}"


async def test_one_private_address_among_public_ones_refuses_the_name() -> None:
    names = Names(hooks_example=["93.184.215.14 2606:4700::1111 10.0.0.1"])
    answer = await send(Sender(AllowList(), resolve=names), "https://hooks.example/")
    assert answer.outcome is Outcome.BLOCKED
    assert "10.0.0.1" not in answer.error, "where names of the network lead is no tenant's business"


async def test_a_name_that_changes_its_mind_is_asked_and_checked_each_time(
    receiver: Receiver,
) -> None:
    """DNS rebinding: public when it was checked, private when it is connected to."""
    names = Names(rebinding_example=["93.184.215.14", "127.0.0.1"])
    # Nothing answers at the public address within the time of this test, and nobody asks for another.
    sender = Sender(AllowList(), resolve=names, attempt_seconds=0.3)
    url = f"https://rebinding.example:{receiver.port}/"
    try:
        first = await sender.send(url, HEADERS, b"{}")
        assert first.outcome in (Outcome.TIMED_OUT, Outcome.UNREACHABLE)
        assert names.asked == ["rebinding.example"], "what was checked is what is connected to"
        second = await sender.send(url, HEADERS, b"{}")
        assert second.outcome is Outcome.BLOCKED
    finally:
        await sender.close()
    assert receiver.received == []


async def test_the_connection_goes_to_the_checked_address_under_the_name(
    receiver: Receiver,
) -> None:
    names = Names(hooks_internal=["127.0.0.1"])
    sender = Sender(AllowList.parse("hooks.internal"), resolve=names)
    answer = await send(sender, f"http://hooks.internal:{receiver.port}/x")
    assert answer.outcome is Outcome.SUCCEEDED
    assert receiver.received[0].headers["host"] == f"hooks.internal:{receiver.port}"


async def test_a_second_address_is_tried_when_nobody_listens_at_the_first(
    receiver: Receiver,
) -> None:
    names = Names(hooks_internal=["127.0.0.9 127.0.0.1"])
    sender = Sender(AllowList.parse("hooks.internal"), resolve=names)
    answer = await send(sender, f"http://hooks.internal:{receiver.port}/")
    assert answer.outcome is Outcome.SUCCEEDED
    assert len(receiver.received) == 1


async def test_a_redirect_to_a_private_address_is_told_and_not_followed(
    receiver: Receiver,
) -> None:
    async with receiving() as private:
        receiver.behaviour = answering(307, Location=private.url)
        answer = await send(Sender(LOCAL), receiver.url)
        assert (answer.outcome, answer.status_code) == (Outcome.REDIRECTED, 307)
        assert "not followed" in answer.error
        assert private.received == []


async def test_a_receiver_that_hangs_costs_its_time_and_no_more(receiver: Receiver) -> None:
    async def hang(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(60)
        return web.Response()

    receiver.behaviour = hang
    answer = await send(Sender(LOCAL, attempt_seconds=0.2), receiver.url)
    assert (answer.outcome, answer.status_code) == (Outcome.TIMED_OUT, 0)
    assert 200 <= answer.latency_ms < 5000


async def test_a_resolver_that_hangs_is_part_of_the_attempt() -> None:
    async def resolve(host: str, port: int) -> Sequence[Address]:
        await asyncio.sleep(60)
        return []

    sender = Sender(AllowList(), resolve=resolve, attempt_seconds=0.1)
    assert (await send(sender, "https://hooks.example/")).outcome is Outcome.TIMED_OUT


async def test_a_name_that_leads_nowhere_is_told() -> None:
    sender = Sender(AllowList(), resolve=Names(hooks_example=[""]))
    answer = await send(sender, "https://hooks.example/")
    assert answer.outcome is Outcome.UNREACHABLE


async def test_nobody_listens(receiver: Receiver) -> None:
    port = receiver.port
    async with receiving() as ended:
        port = ended.port
    answer = await send(Sender(LOCAL), f"http://127.0.0.1:{port}/")
    assert answer.outcome is Outcome.UNREACHABLE
    assert "connect" in answer.error


async def test_a_large_answer_is_kept_in_part(receiver: Receiver) -> None:
    async def flood(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=200)
        await response.prepare(request)
        for _ in range(64):
            await response.write(b"x" * 65_536)
        return response

    receiver.behaviour = flood
    answer = await send(Sender(LOCAL), receiver.url)
    assert answer.outcome is Outcome.SUCCEEDED
    assert len(answer.response) == RESPONSE_BYTES_MAX


async def test_a_slow_body_does_not_undo_the_status(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def trickle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=200)
        await response.prepare(request)
        await response.write(b"begun")
        await asyncio.sleep(60)
        return response

    monkeypatch.setattr("services.events.adapters.webhooks_sender.BODY_SECONDS", 0.2)
    receiver.behaviour = trickle
    answer = await send(Sender(LOCAL, attempt_seconds=5), receiver.url)
    assert (answer.outcome, answer.response) == (Outcome.SUCCEEDED, "begun")
    assert answer.latency_ms < 4000


async def test_what_is_no_text_becomes_text(receiver: Receiver) -> None:
    async def binary(request: web.Request) -> web.StreamResponse:
        return web.Response(body=b"a\0b\x1b[31m\xff\xfe\nc")

    receiver.behaviour = binary
    answer = await send(Sender(LOCAL), receiver.url)
    assert answer.response == "a\ufffdb\ufffd[31m\ufffd\ufffd\nc"


async def test_what_is_compressed_stays_so(receiver: Receiver) -> None:
    async def bomb(request: web.Request) -> web.StreamResponse:
        return web.Response(body=b"not gzip at all", headers={"Content-Encoding": "gzip"})

    receiver.behaviour = bomb
    answer = await send(Sender(LOCAL), receiver.url)
    assert (answer.outcome, answer.response) == (Outcome.SUCCEEDED, "not gzip at all")


async def test_an_answer_that_is_no_http_is_told() -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"220 mail.example ESMTP\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        answer = await send(Sender(LOCAL), f"http://127.0.0.1:{port}/")
        assert answer.outcome is Outcome.UNREACHABLE
    finally:
        server.close()
        await server.wait_closed()


async def test_neither_proxy_nor_cookie_of_the_environment_is_used(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with receiving() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        receiver.behaviour = answering(200, **{"Set-Cookie": "a=b"})
        sender = Sender(LOCAL)
        try:
            for _ in range(2):
                answer = await sender.send(receiver.url, HEADERS, b"{}")
                assert answer.outcome is Outcome.SUCCEEDED
        finally:
            await sender.close()
        assert proxy.received == []
    assert len(receiver.received) == 2
    assert "cookie" not in receiver.received[1].headers


# ---- TLS


class Authority:
    """A certificate authority of this test."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.certificate = self._sign(self._name, self._key.public_key(), ca=True)

    def server(self, host: str) -> ssl.SSLContext:
        """A server's side, with a certificate for a name."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        certificate = self._sign(subject, key.public_key(), ca=False, host=host)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "pair.pem"
            file.write_bytes(
                key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
                + certificate.public_bytes(serialization.Encoding.PEM)
            )
            context.load_cert_chain(file)
        return context

    def client(self) -> ssl.SSLContext:
        """A client's side, which trusts this authority and no other."""
        pem = self.certificate.public_bytes(serialization.Encoding.PEM).decode()
        return ssl.create_default_context(cadata=pem)

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, ca: bool, host: str = ""
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        identifier = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
                critical=False,
            )
        )
        if host:
            names = x509.SubjectAlternativeName([x509.DNSName(host)])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256())


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


async def test_tls_asks_for_the_name_and_checks_it(authority: Authority) -> None:
    asked: list[str | None] = []
    server = authority.server("hooks.internal")
    server.sni_callback = lambda _socket, name, _context: asked.append(name)
    names = Names(hooks_internal=["127.0.0.1"], other_internal=["127.0.0.1"])
    allow = AllowList.parse("hooks.internal,other.internal")
    async with receiving(server) as receiver:
        right = Sender(allow, resolve=names, tls=authority.client())
        answer = await send(right, f"https://hooks.internal:{receiver.port}/")
        assert answer.outcome is Outcome.SUCCEEDED, answer
        assert asked == ["hooks.internal"]
        assert receiver.received[0].headers["host"] == f"hooks.internal:{receiver.port}"
        wrong = Sender(allow, resolve=names, tls=authority.client())
        answer = await send(wrong, f"https://other.internal:{receiver.port}/")
        assert answer.outcome is Outcome.UNREACHABLE
        assert "certificate" in answer.error
        unknown = Sender(allow, resolve=names)
        answer = await send(unknown, f"https://hooks.internal:{receiver.port}/")
        assert answer.outcome is Outcome.UNREACHABLE
        assert len(receiver.received) == 1
