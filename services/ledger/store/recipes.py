"""Recipes that tenants store, by version."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from services.ledger.domain.recipes.recipe import Recipe
from services.ledger.messages import recipes as messages
from services.runtime.database import UnitOfWork
from services.runtime.postgres import sql

_SQL = sql.load("services.ledger", "queries/recipes.sql")


async def lock_recipe(work: UnitOfWork, name: str) -> None:
    """Wait until no other transaction stores a version of this name."""
    await work.execute(_SQL["lock_recipe"], {"tenant_id": work.tenant_id, "name": name})


async def insert_recipe(work: UnitOfWork, recipe: Recipe) -> None:
    """Store a version."""
    parameters = {
        "tenant_id": work.tenant_id,
        "name": recipe.name,
        "version": recipe.version,
        "content": json.dumps(messages.document(recipe)),
        "now": work.now,
    }
    await work.execute(_SQL["insert_recipe"], parameters)


async def read_recipes(
    work: UnitOfWork, wanted: Collection[tuple[str, int]]
) -> dict[tuple[str, int], Recipe]:
    """Read versions by name and number, as they were asked for: 0 is the newest."""
    asked = sorted(wanted)
    parameters = {
        "tenant_id": work.tenant_id,
        "names": [name for name, _ in asked],
        "versions": [version for _, version in asked],
    }
    rows = await work.execute(_SQL["read_recipes"], parameters)
    return {(row.name, row.asked): _recipe(row) for row in rows}


async def list_recipes(work: UnitOfWork, after: str, limit: int) -> list[Recipe]:
    """Read the newest versions behind a name, by name."""
    parameters = {"tenant_id": work.tenant_id, "after": after, "limit": limit}
    return [_recipe(row) for row in await work.execute(_SQL["list_recipes"], parameters)]


def _recipe(row: Any) -> Recipe:
    return replace(
        messages.stored_recipe_of(row.content), version=row.version, created_at=row.created_at
    )
