"""`python -m services.ledger`: the ledger alone, on its own port."""

from services.ledger.manifest import SERVICE
from services.runtime.process.run import main

if __name__ == "__main__":
    main(SERVICE)
