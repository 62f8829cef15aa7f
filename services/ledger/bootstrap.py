"""Builds the ledger from the runtime."""

from __future__ import annotations

import functools
from dataclasses import replace
from importlib import resources

from payments.ledger.v1 import ledger_service_pb2_grpc

from services.ledger.app.chain import Chain
from services.ledger.app.integrity import Integrity
from services.ledger.app.ledger import Ledger
from services.ledger.app.recipes import Recipes
from services.ledger.domain.recipes.recipe import Recipe
from services.ledger.messages.recipes import recipe_of_document
from services.ledger.servicer import SERVICE, LedgerServicer
from services.ledger.work.chain import Chaining
from services.ledger.work.holds import expiring
from services.ledger.work.months import Months
from services.ledger.work.scheduled import posting_due
from services.ledger.work.sums import Sums
from services.runtime import documents
from services.runtime.background import Background
from services.runtime.secrets import SecretBox, parse_keys
from services.runtime.service import Runtime, Service, Servicer


def build(runtime: Runtime) -> Service:
    """Build the service."""
    ledger = Ledger(runtime.database, runtime.commands, runtime.violations)
    recipes = Recipes(product_recipes())
    box = SecretBox(parse_keys(runtime.settings.secrets_keys.get_secret_value()))
    background = Background(
        [
            expiring(runtime.database, runtime.telemetry),
            posting_due(runtime.database, runtime.commands, runtime.telemetry),
            Months(runtime.database),
            Chaining(runtime.database),
            Sums(runtime.database),
        ]
    )
    return Service(
        servicers=[
            Servicer(
                ledger_service_pb2_grpc.add_LedgerServiceServicer_to_server,
                LedgerServicer(
                    ledger,
                    recipes,
                    runtime.database,
                    Chain(runtime.database, box),
                    Integrity(runtime.database, recipes, runtime.violations),
                    runtime.commands,
                    runtime.violations,
                ),
                SERVICE,
            )
        ],
        start=background.start,
        stop=background.stop,
    )


@functools.cache
def product_recipes() -> tuple[Recipe, ...]:
    """Read the product's own recipes, once a process. Raises InvalidField where one is not in the shape of a recipe."""
    folder = resources.files("services.ledger").joinpath("recipes")
    return tuple(
        replace(recipe_of_document(documents.read(file.read_bytes())), is_product=True)
        for file in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if file.name.endswith(".yaml")
    )
