"""`python -m services.metering`: metering alone, on its own port."""

from services.metering.bootstrap import build
from services.runtime.run import main

if __name__ == "__main__":
    main(build)
