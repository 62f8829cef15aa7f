"""What pricing needs of others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from services.pricing.domain.rating import Usage
from services.pricing.domain.readings import Reading, ValueUsage
from services.pricing.domain.taxes import TaxDocument, TaxLine


@dataclass(frozen=True, slots=True)
class UsageSnapshot:
    """The usage of an organisation over a period, and which state of the store it is.

    Attributes:
        ordinal: up to which it holds what was stored; None when metering does not tell.
        log_root: of metering's log of receipts at the ordinal, hexadecimal; empty when metering does not tell.
    """

    usages: tuple[Usage, ...]
    snapshot: str
    ordinal: int | None = None
    log_root: str = ""


class UsageReader(Protocol):
    """Reads usage: metering."""

    async def read(
        self, org_id: str, start_at: datetime, end_at: datetime, at_ordinal: int | None
    ) -> UsageSnapshot:
        """Read sums and counts of all SKUs and projects in one snapshot.

        Args:
            at_ordinal: as of which; None for now.

        Raises:
            DomainError: metering's refusal, or DEPENDENCY_UNAVAILABLE when it cannot be reached.
        """

    async def read_values(
        self,
        org_id: str,
        start_at: datetime,
        end_at: datetime,
        reading: Reading,
        skus: Sequence[str],
        at_ordinal: int | None,
    ) -> list[ValueUsage]:
        """Read usage of some SKUs by an aggregation and, if the reading names one, by value of a dimension.

        Args:
            at_ordinal: as of which; None for now.

        Raises:
            DomainError: metering's refusal, or DEPENDENCY_UNAVAILABLE when it cannot be reached.
        """

    def amounts(
        self, org_id: str, sku: str, start_at: datetime, end_at: datetime, at_ordinal: int | None
    ) -> AsyncIterator[list[tuple[str, Decimal]]]:
        """Read the project and the amount of all events of a SKU in pages of bounded size, zero amounts included.

        They come by event_time and, at the same time, in an order that is for ever the same, since an allowance is used
        up in it.

        Args:
            at_ordinal: as of which; None for now.

        Raises:
            DomainError: metering's refusal, or DEPENDENCY_UNAVAILABLE when it cannot be reached.
        """


class TaxEngine(Protocol):
    """Computes taxes: the catalogue's own tax table, unless another engine is put in its place."""

    async def assess(self, document: TaxDocument) -> list[tuple[TaxLine, ...]] | None:
        """Return the taxes on each item of a document; None: the tenant is not taxed then.

        The same document gives the same taxes, as long as nobody changes rates that were in force at its instant.

        Raises:
            TaxProfileMissing: it is not known where the organisation is taxed.
            TaxRateMissing: nothing is known of a tax code there.
            CurrencyMismatch: the items are in several currencies.
            AmountOverflow: an amount leaves 64-bit minor units.
            DomainError: the engine's refusal, or DEPENDENCY_UNAVAILABLE when it cannot be reached.
        """
