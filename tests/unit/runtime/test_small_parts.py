"""Ids, clocks, page tokens, named SQL, crash points, settings, errors on the wire."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import jwt
import pytest
import structlog
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from payments.events.v1 import events_pb2, events_service_pb2
from payments.type.v1 import type_pb2

from services.runtime import ids, telemetry
from services.runtime.access import MESH_AUDIENCE, MeshTokens, Principal, digest, new_key
from services.runtime.clock import ManualClock
from services.runtime.config import Settings
from services.runtime.edge import paging, status, validation
from services.runtime.errors import (
    BatchTooLarge,
    Code,
    DomainError,
    FieldViolation,
    InvalidField,
    InvalidPageToken,
    NotFound,
    Unauthenticated,
)
from services.runtime.ids import request_id_of
from services.runtime.postgres import sql

texts = st.text(max_size=40)


@given(st.lists(texts, min_size=1, max_size=4), st.lists(texts, min_size=1, max_size=4))
def test_derived_ids_are_equal_only_for_equal_parts(left: list[str], right: list[str]) -> None:
    assert (ids.derived_uuid(*left) == ids.derived_uuid(*right)) == (left == right)


def test_new_ids_rise_and_carry_their_prefix() -> None:
    made = [ids.new_id("chg") for _ in range(1000)]
    assert made == sorted(set(made))
    assert UUID(made[0].removeprefix("chg_")).version == 7
    assert len(ids.new_ulid()) == 26


def test_a_manual_clock_moves_only_forward() -> None:
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    clock.advance(timedelta(days=14))
    assert clock.now() == datetime(2026, 1, 15, tzinfo=UTC)
    with pytest.raises(ValueError, match="backwards"):
        clock.advance(timedelta(seconds=-1))
    with pytest.raises(ValueError, match="zone"):
        ManualClock(datetime(2026, 1, 1))  # noqa: DTZ001 - what it refuses


@given(
    st.dictionaries(
        texts,
        st.one_of(
            st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
            st.integers(-(2**63), 2**63 - 1),
        ),
        max_size=5,
    ),
    texts,
)
def test_page_tokens_go_both_ways(position: dict[str, str | int], scope: str) -> None:
    kinds = {name: type(value) for name, value in position.items()}
    token = paging.encode_token(position, scope)
    assert paging.decode_token(token, scope, kinds) == position


def test_moments_in_page_tokens_keep_their_instant() -> None:
    at = datetime(2026, 1, 1, 12, 0, 0, 7, UTC)
    token = paging.encode_token({"at": at.isoformat()}, "list")
    assert paging.decode_token(token, "list", {"at": datetime}) == {"at": at}


def test_no_page_token_says_nothing() -> None:
    assert paging.decode_token("", "list", {"after": str}) == {}


@given(texts)
def test_any_other_text_is_no_page_token(text: str) -> None:
    with pytest.raises(InvalidPageToken):
        paging.decode_token(text or "-", "list", {"after": str})


def test_page_tokens_are_bound_to_their_arguments() -> None:
    token = paging.encode_token({"after": 1}, "ledger.list org=a")
    with pytest.raises(InvalidPageToken):
        paging.decode_token(token, "ledger.list org=b", {"after": int})


def test_page_sizes_are_clamped() -> None:
    assert [paging.clamp_page_size(n) for n in (0, 5, 10_000)] == [100, 5, 1000]


def test_statements_are_found_by_name_and_carry_it() -> None:
    statements = sql.load("services.runtime", "queries.sql")
    assert statements["claim_request"].startswith("/* runtime.claim_request */")
    assert all(not text.endswith(";") for text in statements.values())


def test_a_crash_point_kills_at_its_nth_pass() -> None:
    program = (
        "from services.runtime.crashpoints import crashpoint\n"
        "for i in range(5): print(i, flush=True); crashpoint('x.y')"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env={"TOLLMESH_CRASHPOINT": "x.y:3", "PATH": ""},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout.split()) == (-9, [b"0", b"1", b"2"])


def test_peers_are_found_by_name_or_star() -> None:
    settings = Settings(peers="ledger=a:1, *=b:2")
    assert (settings.peer("ledger"), settings.peer("billing")) == ("a:1", "b:2")
    with pytest.raises(LookupError, match="TOLLMESH_PEERS=billing"):
        Settings(peers="ledger=a:1").peer("billing")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("listen", "127.0.0.1:73046"),
        ("metrics_listen", "0.0.0.0:65536"),
        ("peers", "ledger=a:1, billing=b:73046"),
        ("peers", "*=b:0"),
        ("otlp_endpoint", "http://collector:73046/"),
    ],
)
def test_a_port_that_there_is_not_is_refused(setting: str, value: str) -> None:
    with pytest.raises(ValueError, match="has no valid port: give one from"):
        Settings.model_validate({setting: value})


def test_other_names_of_places_are_left_to_grpc() -> None:
    for listen in ("127.0.0.1:0", "[::1]:65535", "unix:/tmp/mesh"):
        assert Settings(listen=listen).listen == listen
    assert Settings(peers="*=dns:///mesh:7443,ledger=mesh").peer("ledger") == "mesh"


def test_keys_are_random_and_stored_by_digest() -> None:
    one, other = new_key(), new_key()
    assert one.secret != other.secret
    assert one.secret.startswith(one.prefix)
    assert one.secret_sha256 == digest(one.secret) != digest(other.secret)


def test_mesh_tokens_go_both_ways_and_cannot_be_forged() -> None:
    tokens = MeshTokens("s" * 32)
    principal = Principal("acme", "mesh:billing", frozenset({"ledger:write"}), "corr", "cause")
    assert tokens.resolve(tokens.issue(principal)) == principal
    with pytest.raises(Unauthenticated):
        MeshTokens("t" * 32).resolve(tokens.issue(principal))
    with pytest.raises(Unauthenticated):
        tokens.resolve("not.a.token")
    with pytest.raises(ValueError, match="32"):
        MeshTokens("short")


NOW = int(time.time())
GOOD_CLAIMS: dict[str, Any] = {
    "aud": MESH_AUDIENCE,
    "sub": "mesh:billing",
    "tenant": "acme",
    "scopes": ["*"],
    "iat": NOW,
    "exp": NOW + 60,
}
MESH_KEY = "s" * 64


def claims_but(**changed: Any) -> dict[str, Any]:
    """Good claims with changes, as if NOW were now; a claim that is changed to None is missing."""
    late = int(time.time()) - NOW
    claims = {name: v for name, v in (GOOD_CLAIMS | changed).items() if v is not None}
    for name in ("iat", "exp", "nbf"):
        at = claims.get(name)
        if isinstance(at, int | float) and abs(at - NOW) < 1e9:
            claims[name] = at + late
    return claims


@pytest.mark.parametrize(
    "changed",
    [
        {"exp": None},
        {"iat": None},
        {"sub": None},
        {"tenant": None},
        {"scopes": None},
        {"aud": None},
        {"aud": "another"},
        {"aud": {"a": 1}},
        {"aud": 5},
        {"aud": [MESH_AUDIENCE]},
        {"aud": [MESH_AUDIENCE, "another"]},
        {"nbf": NOW - 60},
        {"iss": "tollmesh"},
        {"jti": "1"},
        {"admin": True},
        {"": ""},
        {"exp": NOW + 301},
        {"exp": NOW + 10 * 365 * 86_400},
        {"exp": NOW - 60, "iat": NOW - 120},
        {"exp": NOW + 60, "iat": NOW - 86_400},
        {"exp": NOW + 3600, "iat": NOW + 3550},
        {"exp": 1e308},
        {"exp": float("inf")},
        {"exp": float("nan")},
        {"iat": float("nan")},
        {"exp": str(NOW + 60)},
        {"exp": NOW + 60.5},
        {"iat": NOW - 0.5},
        {"iat": True},
        {"exp": [NOW + 60]},
        {"exp": 10**400},
        {"nbf": NOW + 3600},
        {"nbf": "soon"},
        {"scopes": 5},
        {"scopes": "*"},
        {"scopes": {"*": 1}},
        {"scopes": ["*", 5]},
        {"scopes": [["*"]]},
        {"scopes": ["x"] * 1000},
        {"tenant": {}},
        {"tenant": ""},
        {"tenant": "a\0b"},
        {"tenant": "a" * 65},
        {"tenant": ["acme"]},
        {"sub": ""},
        {"sub": 7},
        {"sub": "x" * 5000},
        {"correlation": 5},
        {"correlation": "a\0b"},
        {"correlation": "\ud800"},
        {"correlation": "x" * 300},
        {"causation": {"a": "b"}},
        {"causation": "\n"},
    ],
)
def test_a_signed_token_with_odd_claims_is_refused(changed: dict[str, Any]) -> None:
    assert MeshTokens(MESH_KEY).resolve(jwt.encode(claims_but(), MESH_KEY)).tenant_id == "acme"
    token = jwt.encode(claims_but(**changed), MESH_KEY, algorithm="HS256")
    with pytest.raises(Unauthenticated) as caught:
        MeshTokens(MESH_KEY).resolve(token)
    assert caught.value.metadata["cause"] == "mesh_token"


@pytest.mark.parametrize("algorithm", ["HS384", "HS512", "none"])
def test_a_token_by_another_algorithm_is_refused(algorithm: str) -> None:
    key = "" if algorithm == "none" else MESH_KEY
    with pytest.raises(Unauthenticated):
        MeshTokens(MESH_KEY).resolve(jwt.encode(claims_but(), key, algorithm=algorithm))


@pytest.mark.parametrize("body", [b"[]", b"5", b"null", b"[" * 20_000, b'{"a":' * 20_000, b"\xff"])
def test_a_signed_text_that_holds_no_claims_is_refused(body: bytes) -> None:
    token = jwt.api_jws.PyJWS().encode(body, MESH_KEY, algorithm="HS256")
    with pytest.raises(Unauthenticated):
        MeshTokens(MESH_KEY).resolve(token)


def test_a_service_never_acts_as_the_operator_unless_for_the_operator() -> None:
    tokens = MeshTokens(MESH_KEY)
    for held, may in (
        ({"ledger:read"}, False),
        ({"*"}, False),
        ({"*", "mesh:admin"}, True),
    ):
        principal = Principal("acme", "mesh:billing", frozenset(held))
        found = tokens.resolve(tokens.issue(principal))
        assert found.may("mesh:admin") is may


def test_the_operators_scope_is_not_among_every_scope_of_a_tenant() -> None:
    assert Principal("a", "p", frozenset({"*"})).may("ledger:write")
    assert not Principal("a", "p", frozenset({"*"})).may("mesh:admin")
    assert not Principal("a", "p", frozenset({"ledger:read"})).may("ledger:write")


class _Refused(DomainError):
    code = Code.FAILED_PRECONDITION
    reason = "REQUEST_IN_PROGRESS"
    a: str | None = None
    b: str | None = None


@given(texts, st.dictionaries(st.sampled_from(["a", "b"]), texts, max_size=2), st.booleans())
def test_errors_go_over_the_wire_and_back(
    message: str, metadata: dict[str, str], retry: bool
) -> None:
    fields = [FieldViolation("a.b[1]", "is wrong")]
    error = _Refused(message, fields=fields, retry_after_ms=250 if retry else None, **metadata)
    back = status.from_status(status.to_status(error))
    assert back is not None
    assert (back.code, back.reason, back.message) == (error.code, error.reason, error.message)
    assert (back.metadata, back.fields) == (error.metadata, error.fields)
    assert back.retry_after_ms == error.retry_after_ms


def test_an_error_of_any_size_fits_into_trailers() -> None:
    fields = [FieldViolation("f" * 500, "d" * 5000) for _ in range(500)]
    rendered = status.to_status(_Refused("m" * 10_000, fields=fields, a="v" * 10_000))
    assert len(rendered.SerializeToString()) < 7_000


def test_not_found_names_resource_and_id() -> None:
    error = NotFound("charge", "chg_1")
    assert error.metadata == {"resource": "charge", "id": "chg_1"}


def test_broken_rules_are_named_by_field() -> None:
    found = validation.violations(type_pb2.Money(currency_code="usd"), "amount.")
    assert [violation.field for violation in found] == ["amount.currency_code"]
    with pytest.raises(InvalidField) as caught:
        validation.check(type_pb2.Period())
    assert caught.value.metadata["fields"] == "start_at,end_at"


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (
            events_pb2.EventType(subject="Bad", owner="o"),
            "must be 2 to 4 parts of a-z, 0-9, _ and - joined by dots, such as order.created",
        ),
        (
            events_service_pb2.ListEventsRequest(subjects=["Bad"]),
            "joined by dots, such as order.created, or such as order.*",
        ),
        (
            events_service_pb2.UpdateWebhookEndpointRequest(
                request_id=str(UUID(int=1)), endpoint_id="e", subjects=["Bad"]
            ),
            "or such as order.*, or * alone",
        ),
        (
            events_service_pb2.ListWebhookAttemptsRequest(endpoint_id="a b"),
            "must be at most 64 letters, digits or . _ : -",
        ),
    ],
)
def test_patterns_are_said_in_words(message: Message, said: str) -> None:
    (found,) = validation.violations(message)
    assert found.description.endswith(said)


def test_batches_have_bounds() -> None:
    with pytest.raises(BatchTooLarge) as caught:
        validation.check_batch([0] * 11, 10, field="events")
    assert caught.value.metadata == {"items": "11", "items_max": "10"}
    with pytest.raises(InvalidField) as empty:
        validation.check_batch([], 10, field="events")
    assert empty.value.metadata == {"fields": "events"}


def test_idempotency_keys_become_request_ids() -> None:
    given_uuid = "0190C1DE-0000-7000-8000-000000000001"
    assert request_id_of(given_uuid) == given_uuid.lower()
    assert request_id_of("order 7") == request_id_of("order 7") != request_id_of("order 8")
    assert UUID(request_id_of("order 7"))


def test_logs_outlive_the_standard_error_they_began_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a command that was run in a process has ended: a line must never fail the work that wrote it."""
    first, second = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", first)
    telemetry.configure_logs("info")
    logger = structlog.get_logger("probe").bind()
    monkeypatch.setattr(sys, "stderr", second)
    first.close()
    logger.warning("still here")
    assert "still here" in second.getvalue()


def test_a_statement_goes_on_with_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "lab_of_statements"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "good.sql").write_text(
        "-- @one\nSELECT 1 AS n;\n-- @two\nSELECT 2 AS n\n-- @all over found of one, two\nSELECT n FROM found;\n"
        "-- @sum over every of all_of_two\nSELECT sum(n) FROM every;\n"
    )
    (folder / "odd.sql").write_text("-- @all over found of none\nSELECT n FROM found;\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = sql.load("lab_of_statements", "good.sql")
    assert sorted(found) == ["all_of_one", "all_of_two", "one", "sum_of_all_of_two", "two"]
    assert found["all_of_two"].endswith("SELECT 2 AS n)\nSELECT n FROM found")
    assert found["all_of_two"].startswith("/* lab_of_statements.all_of_two */ WITH found AS (")
    # All in one WITH.
    assert found["sum_of_all_of_two"] == (
        "/* lab_of_statements.sum_of_all_of_two */ WITH found AS (/* lab_of_statements.two */ SELECT 2 AS n),"
        " every AS (/* lab_of_statements.all_of_two */ SELECT n FROM found)\nSELECT sum(n) FROM every"
    )
    with pytest.raises(KeyError, match="none"):
        sql.load("lab_of_statements", "odd.sql")
