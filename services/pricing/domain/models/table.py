"""Every price model, by its name in the oneof of the contract."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from services.pricing.domain.models.dynamic import Dynamic
from services.pricing.domain.models.flat import Flat
from services.pricing.domain.models.graduated import Graduated
from services.pricing.domain.models.graduated_percentage import GraduatedPercentage
from services.pricing.domain.models.matrix import Matrix
from services.pricing.domain.models.package import Package
from services.pricing.domain.models.parts import Model
from services.pricing.domain.models.per_unit import PerUnit
from services.pricing.domain.models.percentage import Percentage
from services.pricing.domain.models.stairstep import Stairstep
from services.pricing.domain.models.volume import Volume

MODELS: Mapping[str, type[Model]] = MappingProxyType(
    {
        "flat": Flat,
        "per_unit": PerUnit,
        "graduated": Graduated,
        "volume": Volume,
        "package": Package,
        "percentage": Percentage,
        "graduated_percentage": GraduatedPercentage,
        "stairstep": Stairstep,
        "matrix": Matrix,
        "dynamic": Dynamic,
    }
)
