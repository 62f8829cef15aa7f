"""Recipes: storing and reading them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from heapq import merge

from services.ledger import facts
from services.ledger.domain.recipes.checks import check
from services.ledger.domain.recipes.errors import Fault, RecipeInvalid, RecipeNotFound
from services.ledger.domain.recipes.recipe import Recipe
from services.ledger.store import recipes as store
from services.runtime.database import Database, UnitOfWork


class Recipes:
    """The recipes of the product, and those of the tenant that the running call acts for.

    Args:
        product: every version of the product's own.

    Raises:
        RecipeInvalid: one of them is not sound.
    """

    def __init__(self, product: Iterable[Recipe]) -> None:
        self._product: dict[tuple[str, int], Recipe] = {}
        for recipe in sorted(product, key=lambda each: each.version):
            check(recipe)
            self._product[recipe.name, recipe.version] = recipe
            self._product[recipe.name, 0] = recipe

    async def put(self, recipe: Recipe, work: UnitOfWork) -> Recipe:
        """Store a recipe as the next version of its name; the content of the newest is no new one.

        Raises:
            RecipeInvalid: it is not sound, or the product has a recipe of its name.
        """
        if (recipe.name, 0) in self._product:
            taken = Fault("name", "is that of a recipe of the product; give it another one")
            raise RecipeInvalid.of(recipe.name, [taken])
        check(recipe)
        await store.lock_recipe(work, recipe.name)
        newest = (await store.read_recipes(work, [(recipe.name, 0)])).get((recipe.name, 0))
        if newest is not None and newest.has_content_of(recipe):
            return newest
        version = newest.version + 1 if newest else 1
        stored = replace(recipe, version=version, is_product=False, created_at=work.now)
        await store.insert_recipe(work, stored)
        before = None if newest is None else facts.recipe_document(newest)
        work.audit("recipe", f"{recipe.name}/{version}", before, facts.recipe_document(stored))
        return stored

    async def get(self, database: Database, name: str, version: int) -> Recipe:
        """Return a recipe; version 0 is the newest. Raises RecipeNotFound."""
        async with database.read() as work:
            found = (await self.find(work, [(name, version)])).get((name, version))
        if found is None:
            raise RecipeNotFound.of(name, version)
        return found

    async def list(self, database: Database, after: str, limit: int) -> list[Recipe]:
        """Return the newest versions of all recipes behind a name, by name."""
        async with database.read() as work:
            own = await store.list_recipes(work, after, limit)
        names = sorted(name for name, version in self._product if not version and name > after)
        product = [self._product[name, 0] for name in names]
        return list(merge(product, own, key=lambda recipe: recipe.name))[:limit]

    async def find(
        self, work: UnitOfWork, wanted: Collection[tuple[str, int]]
    ) -> Mapping[tuple[str, int], Recipe]:
        """Return those that there are, by name and version as they are asked for: 0 is the newest."""
        found = {key: self._product[key] for key in wanted if key in self._product}
        others = {key for key in wanted if (key[0], 0) not in self._product}
        return found | await store.read_recipes(work, others) if others else found
