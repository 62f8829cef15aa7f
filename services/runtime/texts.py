"""Texts from outside, made fit for where they go. Pure: domain modules import it."""

from __future__ import annotations


def encodable(text: str) -> str:
    """Return the text without lone surrogates, which JSON can spell and UTF-8 cannot: protobuf takes none."""
    return text if text.isascii() else text.encode("utf-8", errors="replace").decode("utf-8")


def is_kept_whole(text: str) -> bool:
    """Return whether a text is stored as it was sent, so that two of them stay two."""
    return storable(text) == text and "\N{REPLACEMENT CHARACTER}" not in text


def storable(text: str) -> str:
    """Return the text without what a database's text cannot hold: lone surrogates and NUL."""
    return encodable(text.replace("\0", "\N{REPLACEMENT CHARACTER}"))
