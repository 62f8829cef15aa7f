"""`python -m services.pricing`."""

from services.pricing.bootstrap import build
from services.runtime.run import main

if __name__ == "__main__":
    main(build)
