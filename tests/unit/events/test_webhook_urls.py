"""Which URLs a webhook may go to, by their text."""

from __future__ import annotations

import time

import pytest

from services.events.domain import webhooks_urls as urls
from services.events.domain.webhooks import WebhookUrlRefused


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://hooks.example/path?token=1", "hooks.example", 443),
        ("https://hooks.example:8443/", "hooks.example", 8443),
        ("https://HOOKS.example", "hooks.example", 443),
        ("https://xn--bcher-kva.example/a@b", "xn--bcher-kva.example", 443),
        ("https://93.184.215.14/", "93.184.215.14", 443),
        ("https://[2606:4700::1111]/", "2606:4700::1111", 443),
        ("https://a_b.example./", "a_b.example.", 443),
    ],
)
def test_what_is_taken(url: str, host: str, port: int) -> None:
    target = urls.read(url)
    urls.check(target, listed=False)
    assert (target.host, target.port) == (host, port)


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("http://hooks.example/", "https"),
        ("ftp://hooks.example/", "https"),
        ("hooks.example", "https"),
        ("file:///etc/passwd", "https"),
        ("https://user:pass@hooks.example/", "login"),
        ("https://@hooks.example/", "login"),
        ("https://hooks.example/#part", "fragment"),
        ("https://hooks.example/#", "fragment"),
        ("https:///path", "host"),
        ("https://hooks..example/", "host"),
        ("https://ho%20oks/", "host"),
        ("https://hooks.example:25/", "port"),
        ("https://hooks.example:0/", "port"),
        ("https://hooks.example:99999/", "form"),
        ("https://hooks.example:x/", "form"),
        ("https://[::1/", "form"),
        ("https://hooks.example/ x", "characters"),
        ("https://hooks.example\\@evil.example/", "characters"),
        ("https://bücher.example/", "characters"),
        ("https://hooks.example/\r\nHost: evil", "characters"),
        # The address 127.0.0.1 in the spellings that old resolvers take.
        ("https://2130706433/", "host"),
        ("https://127.1/", "host"),
        ("https://0177.0.0.1/", "host"),
        ("https://0x7f.0.0.1/", "host"),
        ("https://0x7f000001/", "host"),
        ("https://127.0.0.1./", "host"),
        ("https://127.0.0.256/", "host"),
        ("https://1.2.3.4.5/", "host"),
    ],
)
def test_what_is_refused_and_by_which_rule(url: str, rule: str) -> None:
    with pytest.raises(WebhookUrlRefused) as refused:
        urls.check(urls.read(url), listed=False)
    assert refused.value.metadata == {"rule": rule}
    assert "example" not in refused.value.message, "a URL may hold a token, so it is not repeated"


def test_the_operators_list_lets_http_and_low_ports_through() -> None:
    urls.check(urls.read("http://hooks.internal:81/"), listed=True)


def test_path_and_query_stay_as_they_were_written() -> None:
    found = urls.read("https://hooks.example:8443/%7Ea//b/../c?x=a%2Fb+c").at("::1")
    assert str(found) == "https://[::1]:8443/%7Ea//b/../c?x=a%2Fb+c"
    assert found.raw_host == "::1"
    assert str(urls.read("https://hooks.example?x").at("1.2.3.4")) == "https://1.2.3.4/?x"


def test_no_host_takes_long_to_judge() -> None:
    began = time.perf_counter()
    with pytest.raises(WebhookUrlRefused):
        urls.read("https://" + "a" * 2000 + "!/")
    assert time.perf_counter() - began < 0.5
