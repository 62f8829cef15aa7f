"""Use cases of payments and merchant configurations."""
