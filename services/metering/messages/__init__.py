"""Proto and domain, in one place for servicer, clients and facts."""
