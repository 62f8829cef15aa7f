"""Speaks to gateways of a merchant's own, whose form a configuration describes."""
