"""The facade keeps its OpenAPI description, whatever is sent: generated calls, good ones and bad ones."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.http.curl import Curl, tenant_key
from tests.support.http.rest import REPOSITORY, Reply
from tests.support.mesh.up import Running

# One mesh serves all journeys of this folder.
pytestmark = pytest.mark.xdist_group("gateway-journeys")

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    allow_header_conformance,
]
EXAMPLES = 8
DESCRIPTION = (
    schemathesis.openapi.from_path(REPOSITORY / "gen" / "openapi" / "tollmesh.openapi.json")
    # Never ends of itself; tests/integration/gateway tails it.
    .exclude(path="/v1/events:tail")
    # Answers a document a line, which is no document; tests/integration/gateway reads its lines.
    .exclude(path="/v1/ledger/integrity:verify")
)


@pytest.fixture(scope="module")
def key(mesh: Running, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Key of a tenant that only this test fills with nonsense."""
    folder: Path = tmp_path_factory.mktemp("key")
    return tenant_key(Curl(mesh.rest, mesh.api_key, folder), f"fuzz-{uuid.uuid4().hex[:8]}")


@DESCRIPTION.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
def test_contract(case: schemathesis.Case[Any], mesh: Running, key: str) -> None:
    answer = case.call(base_url=mesh.rest, headers={"Authorization": f"Bearer {key}"}, timeout=30)
    case.validate_response(answer, checks=CHECKS)
    if answer.status_code >= 400:
        check_error(Reply(answer.status_code, {}, answer.content or b""))


def check_error(reply: Reply) -> None:
    """Every error is a google.rpc.Status that says why."""
    status = reply.json()
    assert set(status) == {"code", "message", "details"}, status
    assert status["code"] > 0
    assert status["message"]
    assert reply.reason, json.dumps(status)
