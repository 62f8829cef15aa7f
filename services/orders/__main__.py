"""`python -m services.orders`: orders alone, on its own port."""

from services.orders.manifest import SERVICE
from services.runtime.process.run import main

if __name__ == "__main__":
    main(SERVICE)
