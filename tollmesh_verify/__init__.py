"""Verifies an exported explanation of a charge, and receipts of usage: offline, alone, and with nothing of the product.

`python -m tollmesh_verify FILE` and `python -m tollmesh_verify receipts FILE...` need this folder and Python's standard
library. The rules are written down here a second time, from what `payments/pricing/v1/pricing.proto`,
`payments/metering/v1/receipts.proto` and `docs/reference/pricing.md` say of them, in fractions.
"""

from tollmesh_verify.reading import FORMAT, Refused
from tollmesh_verify.receipts import (
    CONSISTENCY_FORMAT,
    RECEIPT_FORMAT,
    ReceiptsReport,
    document_of,
    verify_receipts,
)
from tollmesh_verify.report import Report, Verdict
from tollmesh_verify.sealing import seal
from tollmesh_verify.verifying import verify

__all__ = [
    "CONSISTENCY_FORMAT",
    "FORMAT",
    "RECEIPT_FORMAT",
    "ReceiptsReport",
    "Refused",
    "Report",
    "Verdict",
    "document_of",
    "seal",
    "verify",
    "verify_receipts",
]
