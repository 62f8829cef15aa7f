"""`python -m services.monitoring`."""

from services.monitoring.manifest import SERVICE
from services.runtime.process.run import main

if __name__ == "__main__":
    main(SERVICE)
