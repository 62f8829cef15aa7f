"""Every statement of payments and merchant configurations."""
