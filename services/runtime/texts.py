"""Texts from outside, made fit for where they go. Pure: domain modules import it."""

from __future__ import annotations


def encodable(text: str) -> str:
    """Return the text without lone surrogates, which JSON can spell and UTF-8 cannot: protobuf takes none."""
    return text if text.isascii() else text.encode("utf-8", errors="replace").decode("utf-8")


def storable(text: str) -> str:
    """Return the text without what a database's text cannot hold: lone surrogates and NUL."""
    return encodable(text.replace("\0", "\N{REPLACEMENT CHARACTER}"))
