"""Processors of others, as processes of their own, and what cuts the connections to them."""
