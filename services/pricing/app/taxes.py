"""Computes taxes by the catalogue's tax table: the engine that needs nobody else."""

from __future__ import annotations

from services.pricing import store
from services.pricing.domain.taxes import TaxDocument, TaxLine, TaxRules, taxed
from services.runtime.database import Database
from services.runtime.turns import aside


class TaxTable:
    """The tax table of the tenant that the running call acts for."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def assess(self, document: TaxDocument) -> list[tuple[TaxLine, ...]] | None:
        """Return the taxes on each item of a document; None while no rate of the tenant is in force.

        Raises:
            TaxProfileMissing, TaxRateMissing, CurrencyMismatch, AmountOverflow: see `ports.TaxEngine`.
        """
        profile, at = document.profile, document.taxed_at
        async with self._database.read() as work:
            codes = {item.tax_code for item in document.items}
            places = profile.jurisdictions if profile else ()
            rates = await store.tax_rates(work, places, codes, at) if places else []
            if not rates and not await store.has_tax_rates(work, at):
                return None
            policy = await store.tax_policy(work, profile.country if profile else "")
        rules = TaxRules.of(profile, policy, rates)
        return await aside(len(document.items), taxed, document, rules)
