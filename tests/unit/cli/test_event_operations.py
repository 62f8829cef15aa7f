"""`tollmesh events replay`: what is asked for, call by call, and how an interrupted command goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from payments.events.v1 import events_pb2
from payments.events.v1 import events_service_pb2 as service_pb2

from services.cli.commands import event_operations, events
from services.cli.errors import EXIT_REFUSED, EXIT_UNAVAILABLE, EXIT_USAGE, CliError


class Answers:
    """A client that answers from a list and remembers what it was asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[Any] = []

    def __enter__(self) -> Answers:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def stub(self, _type: object) -> Any:
        return type("Stub", (), {"ReplayEvents": None, "ReplayDeadLetters": None})

    def call(self, _method: object, request: Any) -> Any:
        self.asked.append(type(request).FromString(request.SerializeToString()))
        answer = self.answers.pop(0)
        if isinstance(answer, CliError):
            raise answer
        return answer


def replay(
    monkeypatch: pytest.MonkeyPatch,
    client: Answers,
    consumer: str = "monitoring.violations",
    **fields: Any,
) -> None:
    monkeypatch.setattr(event_operations, "Client", lambda _session: client)
    given = {
        "dead_letters": False,
        "key": "",
        "event": None,
        "from_": "",
        "to": "",
        "subject": None,
    }
    event_operations.replay(consumer, **{"request_id": "", **given, **fields})


def page(count: int, token: str = "") -> service_pb2.ReplayEventsResponse:
    return service_pb2.ReplayEventsResponse(
        replayed_count=count, generation=3, next_page_token=token
    )


def test_a_period_is_gone_through_to_its_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client = Answers(page(10, "more"), page(5))
    replay(monkeypatch, client, from_="2026-11-01", to="2026-11-02T12:00:00+02:00")
    first, second = client.asked
    assert (first.page_token, second.page_token) == ("", "more")
    assert first.request_id != second.request_id
    assert first.period == second.period
    assert first.period.end_at.ToJsonString() == "2026-11-02T10:00:00Z"
    assert "15 events queued again as generation 3" in capsys.readouterr().out


def test_an_interrupted_command_says_how_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    away = CliError("gone", exit_code=EXIT_UNAVAILABLE)
    client = Answers(page(10, "more"), away)
    with pytest.raises(CliError) as caught:
        replay(monkeypatch, client, from_="2026-11-01")
    (hint,) = caught.value.hints
    words = hint.split()
    to, started = words[words.index("--to") + 1], words[words.index("--request-id") + 1][:36]
    again = Answers(page(10, "more"), page(5))
    replay(monkeypatch, again, from_="2026-11-01", to=to, request_id=started)
    # The same ids and the same period, so what was done is answered from memory.
    assert again.asked == client.asked


def test_dead_letters_are_brought_back_until_none_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = service_pb2.ReplayDeadLettersResponse
    client = Answers(answer(replayed_count=2, more=True), answer(replayed_count=1))
    replay(monkeypatch, client, dead_letters=True, key="k")
    assert [request.key for request in client.asked] == ["k", "k"]
    # Letters that stay where they are end it too.
    stuck = Answers(answer(replayed_count=0, more=True))
    replay(monkeypatch, stuck, dead_letters=True)
    assert len(stuck.asked) == 1


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "--dead-letters or --from"),
        ({"dead_letters": True, "from_": "2026-11-01"}, "--dead-letters or --from"),
        ({"dead_letters": True, "to": "2026-11-01"}, "--to and --subject go with --from"),
        ({"from_": "2026-11-01", "key": "k"}, "--key and --event go with --dead-letters"),
        ({"from_": "yesterday"}, "is not a time"),
        ({"from_": "2026-11-02", "to": "2026-11-01"}, "is not before"),
        ({"dead_letters": True, "request_id": "x"}, "is not a UUID"),
    ],
)
def test_what_does_not_go_together_is_refused(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], said: str
) -> None:
    client = Answers()
    with pytest.raises(CliError, match=said) as caught:
        replay(monkeypatch, client, **fields)
    assert caught.value.exit_code == EXIT_USAGE
    assert client.asked == []


def test_every_replay_without_an_id_is_one_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = service_pb2.ReplayDeadLettersResponse
    clients = [Answers(answer()) for _ in range(2)]
    for client in clients:
        replay(monkeypatch, client, dead_letters=True)
    first, second = (client.asked[0].request_id for client in clients)
    assert first != second


def test_a_refusal_asks_for_no_repetition(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = Answers(CliError("consumer nobody does not exist", exit_code=EXIT_REFUSED))
    with pytest.raises(CliError) as caught:
        replay(monkeypatch, refused, "nobody", dead_letters=True)
    assert not caught.value.hints


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe", "is UTF-16"),
        (b"\xff\x00", "the file isn't valid JSON"),
        (b"[" * 100_000, "the file isn't valid JSON"),
        (b"", "the file isn't valid JSON"),
    ],
)
def test_a_file_that_holds_no_events_is_refused(
    content: bytes, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(events, "Client", lambda _session: Answers())
    file = tmp_path / "events.json"
    file.write_bytes(content)
    with pytest.raises(CliError, match=said) as caught:
        events.publish(str(file))
    assert caught.value.exit_code == EXIT_USAGE


def test_a_tail_that_breaks_off_says_how_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def follow(*_: object, **__: object) -> Iterator[tuple[events_pb2.Event, str]]:
        yield events_pb2.Event(subject="order.created"), "c-1"
        yield events_pb2.Event(subject="order.created"), "c-2"
        raise CliError("the server is stopping", exit_code=EXIT_UNAVAILABLE)

    monkeypatch.setattr(events, "Client", lambda _session: Answers())
    monkeypatch.setattr(events, "_follow", follow)
    with pytest.raises(CliError) as caught:
        events.tail()
    assert "--after c-2" in caught.value.hints[-1]
