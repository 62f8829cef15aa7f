"""Proofs of a line, as one message."""

from __future__ import annotations

from payments.pricing.v1 import pricing_pb2

from services.billing.domain.charges import RatedLine


def proof_message(line: RatedLine) -> pricing_pb2.LineProof:
    """Write the proof of a line, with those of the parts of the period before."""
    proof = pricing_pb2.LineProof.FromString(line.proof)
    proof.earlier_parts.extend(map(pricing_pb2.LineProof.FromString, line.earlier_proofs))
    return proof


def proof_bytes(line: RatedLine) -> bytes:
    """Write the same for the store."""
    if not line.earlier_proofs:
        return line.proof
    return proof_message(line).SerializeToString(deterministic=True)
