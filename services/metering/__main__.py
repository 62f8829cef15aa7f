"""`python -m services.metering`: metering alone, on its own port."""

from services.metering.manifest import SERVICE
from services.runtime.process.run import main

if __name__ == "__main__":
    main(SERVICE)
