"""Migrations of schema `events`."""
