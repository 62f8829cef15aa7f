"""Proto and domain, in one place for servicer, clients and facts: one part of the service a module."""
