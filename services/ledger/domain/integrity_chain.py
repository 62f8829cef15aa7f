"""What must be true of the chain and of the heads that were given out. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.ledger.domain.chain import (
    BLOCK_TRANSFERS_MAX,
    GENESIS,
    Block,
    BookedTransfer,
    sealed,
)
from services.ledger.domain.findings import Check, Finding
from services.ledger.domain.heads import LedgerHead


def block_faults(
    tenant_id: str, before: Block | None, block: Block, transfers: Sequence[BookedTransfer]
) -> list[Finding]:
    """Compare a block with the one before and with the transfers behind that one and up to its last."""

    def finding(message: str, expected: object, found: object) -> Finding:
        return Finding(Check.CHAIN, message, str(expected), str(found), block_no=block.block_no)

    findings = []
    number = 1 if before is None else before.block_no + 1
    if block.block_no != number:
        findings.append(finding("blocks are missing before this one", number, block.block_no))
    previous = GENESIS if before is None else before.hash
    if block.previous_hash != previous:
        message = "the block names another hash than that of the block before"
        findings.append(finding(message, previous.hex(), block.previous_hash.hex()))
    total = (0 if before is None else before.transfer_total) + block.transfer_count
    if block.transfer_total != total:
        findings.append(finding("the block counts wrongly", total, block.transfer_total))
    if len(transfers) != block.transfer_count:
        message = "transfers of the block are missing, or were added"
        count = f"more than {BLOCK_TRANSFERS_MAX}"
        found = str(len(transfers)) if len(transfers) <= BLOCK_TRANSFERS_MAX else count
        findings.append(finding(message, block.transfer_count, found))
    content = sealed(tenant_id, block, transfers)
    if content.hash != block.hash:
        message = "the hash does not follow from the transfers of the block"
        findings.append(finding(message, block.hash.hex(), content.hash.hex()))
    return findings


def head_faults(
    head: LedgerHead, block: Block | None, tenant_id: str, keys: Mapping[str, bytes]
) -> list[Finding]:
    """Compare a head, as it was kept, with the chain.

    Args:
        head: as it was kept.
        block: the block of its number, if the chain holds one.
        tenant_id: whose chain it is.
        keys: the public keys of the tenant, by id.
    """

    def finding(message: str, expected: object, found: object) -> Finding:
        return Finding(Check.HEADS, message, str(expected), str(found), block_no=head.block_no)

    if head.tenant_id != tenant_id:
        return [finding("the head is of other books", tenant_id, "another tenant")]
    findings = []
    if not head.is_signed:
        message = "the signature is not that of what the head says"
        findings.append(finding(message, "a signature", "another"))
    if keys.get(head.key_id) != head.public_key:
        known = ", ".join(sorted(keys)) or "no key"
        findings.append(finding("the head is signed with a strange key", head.key_id, known))
    if block is None:
        message = "the chain does not hold the block of the head"
        findings.append(finding(message, head.hash.hex(), "no block"))
    elif block.hash != head.hash:
        message = "the chain holds another block than the head: what was posted was rewritten"
        findings.append(finding(message, head.hash.hex(), block.hash.hex()))
    elif block.transfer_total != head.transfer_count:
        message = "the block of the head counts other transfers"
        findings.append(finding(message, head.transfer_count, block.transfer_total))
    return findings
