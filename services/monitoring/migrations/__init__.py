"""Migrations of schema `monitoring`."""
