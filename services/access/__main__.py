"""`python -m services.access`."""

from services.access.bootstrap import build
from services.runtime.run import main

if __name__ == "__main__":
    main(build)
