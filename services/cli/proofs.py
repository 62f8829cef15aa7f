"""Files that hold all that a charge is computed from, for whoever wants to compute it again without us."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from payments.billing.v1 import billing_pb2, charge_service_pb2, charge_service_pb2_grpc

from services.cli.client import Client
from services.cli.errors import CliError
from services.cli.output import as_dict
from tollmesh_verify import FORMAT, seal
from tollmesh_verify.reading import BYTES_MAX

_PAGE_SIZE = 100


def collect(client: Client, charge_id: str) -> list[dict[str, Any]]:
    """Explain a charge; one that corrects another behind what had been billed before it."""
    asked = _explained(client, charge_id)
    before = []
    if asked.adjusts_charge_id:
        ids = [asked.adjusts_charge_id, *_corrections_before(client, asked)]
        before = [_explained(client, each) for each in ids]
    return [_plain(each) for each in (*before, asked)]


def content(charges: Sequence[Mapping[str, Any]]) -> tuple[bytes, str]:
    """Write explained charges as a file; returns it with the SHA-256 of what it says.

    Raises:
        CliError: it is larger than a verifier reads.
    """
    sealed = seal(charges)
    document = {"format": FORMAT, "charges": charges, "seal": sealed}
    text = (json.dumps(document, indent=1) + "\n").encode()
    if len(text) > BYTES_MAX:
        raise CliError(
            f"the file would have {len(text)} bytes, and {BYTES_MAX} are read at most",
            "a correction is exported with all that was billed before it; reverse the charge, and charge it again",
        )
    return text, str(sealed["sha256"])


def _explained(client: Client, charge_id: str) -> billing_pb2.ChargeExplanation:
    stub = client.stub(charge_service_pb2_grpc.ChargeServiceStub)
    request = charge_service_pb2.ExplainChargeRequest(charge_id=charge_id)
    return client.call(stub.ExplainCharge, request).explanation


def _corrections_before(client: Client, asked: billing_pb2.ChargeExplanation) -> list[str]:
    stub = client.stub(charge_service_pb2_grpc.ChargeServiceStub)
    request = charge_service_pb2.ListChargesRequest(
        adjusts_charge_id=asked.adjusts_charge_id, page_size=_PAGE_SIZE
    )
    found: dict[int, str] = {}
    while True:
        page = client.call(stub.ListCharges, request)
        for each in page.charges:
            if each.correction_no < asked.correction_no:
                found[each.correction_no] = each.charge_id
        if not page.next_page_token:
            return [charge_id for _, charge_id in sorted(found.items())]
        request.page_token = page.next_page_token


def _plain(explained: billing_pb2.ChargeExplanation) -> dict[str, Any]:
    """Write an explanation without its sentences: they say again what the fields say."""
    for line in explained.lines:
        line.ClearField("steps")
    return as_dict(explained, zeros=False)
