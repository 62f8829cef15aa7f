"""`tollmesh webhooks listen`, against a receiver that the mesh sends to as well."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import pytest
from standardwebhooks.webhooks import Webhook

from services.cli.errors import EXIT_REFUSED, EXIT_USAGE
from tests.integration.cli.conftest import Receiver, Tollmesh
from tests.integration.cli.test_commands import AT
from tests.support.mesh.process import MeshProcess

pytestmark = pytest.mark.xdist_group("cli")

WITHIN_SECONDS = 60.0
SECRET = "whsec_" + "QUJD" * 8


def published(tollmesh: Tollmesh) -> str:
    """Publish an event of an outside producer; returns its id."""
    event_id = str(uuid4())
    data = {"intake_id": event_id, "captured_at": AT, "channel": "web"}
    event = {"id": event_id, "subject": "intake.captured.v2", "data": data}
    done = tollmesh("events", "publish", "-", stdin=json.dumps(event).encode())
    assert done.exit_code == 0, done.err
    return event_id


def test_what_is_forwarded_is_what_the_mesh_sends(
    tollmesh: Tollmesh, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = "intake.captured.v2"
    endpoint = tollmesh("webhooks", "create", receiver.url, "--subject", kind, "-o", "json").json()
    cursor = tollmesh("events", "list", "--subject", kind, "--limit", "1000", "-o", "json").json()[
        "next_cursor"
    ]
    ids = [published(tollmesh) for _ in range(2)]
    monkeypatch.setenv("TOLLMESH_LISTEN_SECRET", SECRET)
    heard = ("webhooks", "listen", "--forward-to", receiver.url, "--subject", kind)
    done = tollmesh(*heard, "--after", cursor, "--limit", "2", "-o", "json")
    assert done.exit_code == 0, done.err
    ready, *deliveries = [json.loads(line) for line in done.out.splitlines()]
    assert ready == {"forward_to": receiver.url, "secret": ""}
    assert [(each["event_id"], each["status"]) for each in deliveries] == [
        (event_id, 200) for event_id in ids
    ]
    endpoint_id, secret = endpoint["endpoint"]["endpoint_id"], endpoint["secret"]
    by_mesh = _of(receiver, secret, ids)
    by_listener = _of(receiver, SECRET, ids)
    for event_id in ids:
        (theirs, their_body), (ours, our_body) = by_mesh[event_id], by_listener[event_id]
        assert our_body == their_body
        assert set(ours) == set(theirs)
        differ = {name for name in ours if ours[name] != theirs[name]}
        assert differ <= {"webhook-signature", "webhook-timestamp"}
    assert tollmesh("webhooks", "delete", endpoint_id, "--yes").exit_code == 0


def _of(receiver: Receiver, secret: str, ids: list[str]) -> dict[str, tuple[dict[str, str], bytes]]:
    """Wait for the deliveries of these events that one secret signed."""
    deadline = time.monotonic() + WITHIN_SECONDS
    while time.monotonic() < deadline:
        found = {
            headers["webhook-id"]: (headers, body)
            for headers, body in list(receiver.received)
            if _is_signed(body, headers, secret)
        }
        if set(ids) <= set(found):
            return found
        time.sleep(0.05)
    raise AssertionError(f"of {ids} came {[h['webhook-id'] for h, _ in receiver.received]}")


def _is_signed(body: bytes, headers: dict[str, str], secret: str) -> bool:
    try:
        Webhook(secret).verify(body, headers)
    except Exception:
        return False
    return True


def test_it_starts_now_and_shows_what_failed(
    tollmesh: Tollmesh, receiver: Receiver, mesh: MeshProcess
) -> None:
    published(tollmesh)
    receiver.status = 503
    environment = os.environ | {
        "TOLLMESH_ADDRESS": mesh.ready["grpc"],
        "TOLLMESH_API_KEY": mesh.ready["api_key"],
    }
    command = [sys.executable, "-m", "services.cli", "webhooks", "listen", "-o", "json"]
    with subprocess.Popen(
        [*command, "--forward-to", receiver.url, "--subject", "intake.*", "--limit", "1"],
        env=environment,
        cwd=Path(__file__).parents[3],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            event_id = published(tollmesh)
            delivery = json.loads(process.stdout.readline())
            assert process.wait(60) == 0
        finally:
            process.kill()
    assert (delivery["event_id"], delivery["status"]) == (event_id, 503)
    ((headers, body),) = receiver.received
    Webhook(ready["secret"]).verify(body, headers)


def test_nobody_who_listens_is_an_error_of_its_line(tollmesh: Tollmesh) -> None:
    cursor = tollmesh(
        *("events", "list", "--subject", "intake.captured.v2", "--limit", "1000", "-o", "json")
    ).json()["next_cursor"]
    published(tollmesh)
    heard = ("webhooks", "listen", "--subject", "intake.captured.v2", "--after", cursor)
    done = tollmesh(*heard, "--forward-to", "http://127.0.0.1:9/", "--limit", "1")
    assert done.exit_code == 0
    assert "failed" in done.out and "refused" in done.out
    assert done.out.startswith("whsec_")
    wrong = tollmesh("webhooks", "listen", "--forward-to", "localhost:9")
    assert wrong.exit_code == EXIT_USAGE
    unknown = tollmesh(
        "webhooks", "listen", "--forward-to", "http://127.0.0.1:9/", "--subject", "no.such"
    )
    assert unknown.exit_code == EXIT_REFUSED
