"""Speaks to Stripe, and to what is compatible with it, through Stripe's own library."""
