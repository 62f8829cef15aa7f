"""Recipes: what a fact of one kind means in the books, checked when it is stored, evaluated when it is posted."""
