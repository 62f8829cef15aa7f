"""Callers by HTTP: of the facade, of pages of the documentation, and of what no client would send."""
