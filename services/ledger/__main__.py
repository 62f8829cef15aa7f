"""`python -m services.ledger`: the ledger alone, on its own port."""

from services.ledger.bootstrap import build
from services.runtime.run import main

if __name__ == "__main__":
    main(build)
