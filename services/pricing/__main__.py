"""`python -m services.pricing`."""

from services.pricing.manifest import SERVICE
from services.runtime.process.run import main

if __name__ == "__main__":
    main(SERVICE)
