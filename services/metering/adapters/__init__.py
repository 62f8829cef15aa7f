"""Outside forms of usage."""
