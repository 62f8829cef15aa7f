"""`tollmesh webhooks`, against a receiver on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from standardwebhooks.webhooks import Webhook

from services.cli import durations
from services.cli.errors import EXIT_REFUSED, EXIT_USAGE, CliError
from tests.integration.cli.conftest import Receiver, Tollmesh

pytestmark = pytest.mark.xdist_group("cli")


@pytest.fixture
def endpoint(tollmesh: Tollmesh, receiver: Receiver) -> Iterator[dict[str, str]]:
    """An endpoint that gets nothing but tests."""
    made = tollmesh("webhooks", "create", receiver.url, "--subject", "order.created", "-o", "json")
    assert made.exit_code == 0, made.err
    found = made.json()
    yield {"id": found["endpoint"]["endpoint_id"], "secret": found["secret"]}
    assert tollmesh("webhooks", "delete", found["endpoint"]["endpoint_id"], "--yes").exit_code == 0


def test_a_secret_is_shown_once_with_its_hint(tollmesh: Tollmesh, receiver: Receiver) -> None:
    made = tollmesh("webhooks", "create", receiver.url, "--subject", "order.created", "--ed25519")
    assert made.exit_code == 0, made.err
    assert made.out.startswith("whpk_")
    assert "shown only once" in made.out
    listed = tollmesh("webhooks", "list", "-o", "json")
    (found,) = [each for each in listed.json()["endpoints"] if each["url"] == receiver.url]
    assert tollmesh("webhooks", "delete", found["endpoint_id"], "-y", "-o", "json").json() == {}


def test_a_test_shows_what_came_back(
    tollmesh: Tollmesh, receiver: Receiver, endpoint: dict[str, str]
) -> None:
    tested = tollmesh("webhooks", "test", endpoint["id"])
    assert tested.exit_code == 0, tested.err
    assert "succeeded" in tested.out
    assert "heard" in tested.out
    ((headers, body),) = receiver.received
    Webhook(endpoint["secret"]).verify(body, headers)
    receiver.status = 503
    failed = tollmesh("webhooks", "test", endpoint["id"])
    assert failed.exit_code == EXIT_REFUSED
    assert "503" in failed.out
    assert "only 2xx" in failed.err
    shown = tollmesh("webhooks", "attempts", "--endpoint", endpoint["id"], "-o", "json").json()
    assert [each["status_code"] for each in shown["attempts"]] == [503, 200]
    refused = tollmesh("webhooks", "attempts", "--endpoint", endpoint["id"], "--outcome", "refused")
    assert "503" in refused.out
    assert "succeeded" not in refused.out


def test_rotation_shows_the_new_secret_and_when_the_old_one_ends(
    tollmesh: Tollmesh, receiver: Receiver, endpoint: dict[str, str]
) -> None:
    rotated = tollmesh("webhooks", "rotate", endpoint["id"], "--overlap", "1h")
    assert rotated.exit_code == 0, rotated.err
    secret = rotated.out.splitlines()[0]
    assert "keeps signing until" in rotated.out
    assert tollmesh("webhooks", "test", endpoint["id"]).exit_code == 0
    ((headers, body),) = receiver.received
    for each in (secret, endpoint["secret"]):
        Webhook(each).verify(body, headers)


def test_disabling_and_sending_again(
    tollmesh: Tollmesh, receiver: Receiver, endpoint: dict[str, str]
) -> None:
    assert tollmesh("webhooks", "test", endpoint["id"]).exit_code == 0
    disabled = tollmesh("webhooks", "update", endpoint["id"], "--disable")
    assert "disabled: requested" in disabled.out
    refused = tollmesh("webhooks", "test", endpoint["id"])
    assert (refused.exit_code, "WEBHOOK_ENDPOINT_DISABLED" in refused.err) == (EXIT_REFUSED, True)
    enabled = tollmesh(
        "webhooks",
        "update",
        endpoint["id"],
        "--enable",
        "--description",
        "ours",
        "--format",
        "cloudevents",
    )
    assert "enabled" in enabled.out
    assert "ours" in enabled.out
    shown = tollmesh(
        "webhooks", "deliveries", endpoint["id"], "--status", "delivered", "-o", "json"
    )
    (delivery,) = shown.json()["deliveries"]
    again = tollmesh("webhooks", "redeliver", endpoint["id"], "--event", delivery["event_id"])
    assert "1 queued for redelivery" in again.out
    month = delivery["created_at"][:7]
    none = tollmesh("webhooks", "redeliver", endpoint["id"], "--period", month, "-o", "json")
    assert none.json() == {"redelivered": 0, "more": False}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("create", "https://10.0.0.1/"), "10.0.0.1 is not public"),
        (("create", "http://hooks.example/"), "https://"),
        (("rotate", "whe_1", "--overlap", "8d"), "overlap"),
        (("test", "whe_1"), "does not exist"),
        (("redeliver", "whe_1", "--event", "e"), "does not exist"),
    ],
)
def test_what_cannot_be_is_refused(
    tollmesh: Tollmesh, arguments: tuple[str, ...], said: str
) -> None:
    refused = tollmesh("webhooks", *arguments)
    assert refused.exit_code == EXIT_REFUSED
    assert said in refused.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("redeliver", "whe_1"), "--event or --period"),
        (("redeliver", "whe_1", "--event", "e", "--period", "2026-01"), "--event or --period"),
        (("rotate", "whe_1", "--overlap", "soon"), "is not a duration"),
        (("attempts", "--outcome", "odd"), "not one of sending"),
        (("create", "https://hooks.example/", "--format", "xml"), "not one of json"),
        (("deliveries", "whe_1", "--status", "odd"), "not one of pending"),
    ],
)
def test_wrong_usage_is_told(tollmesh: Tollmesh, arguments: tuple[str, ...], said: str) -> None:
    wrong = tollmesh("webhooks", *arguments)
    assert wrong.exit_code == EXIT_USAGE
    assert said in wrong.err


def test_settings_that_do_not_read_are_told_before_anything_starts(
    tollmesh: Tollmesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir = tmp_path / "data"
    wrong = tollmesh("up", "--data-dir", str(data_dir), "--webhook-allow", "a b")
    assert (wrong.exit_code, "--webhook-allow" in wrong.err) == (EXIT_USAGE, True)
    monkeypatch.setenv("TOLLMESH_SECRETS_KEYS", "sesame")
    wrong = tollmesh("up", "--data-dir", str(data_dir))
    assert (wrong.exit_code, "TOLLMESH_SECRETS_KEYS" in wrong.err) == (EXIT_USAGE, True)
    assert "sesame" not in wrong.err
    assert not data_dir.exists()


def test_overlaps_are_read() -> None:
    assert [
        durations.parse(text).total_seconds() for text in ("0", "90", "90s", "2m", "24h", "7d")
    ] == [*(0, 90, 90, 120, 86_400, 604_800)]
    with pytest.raises(CliError):
        durations.parse("1w")
