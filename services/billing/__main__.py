"""`python -m services.billing`: billing alone, on its own port."""

from services.billing.manifest import SERVICE
from services.runtime.process.run import main

if __name__ == "__main__":
    main(SERVICE)
