"""`python -m services.monitoring`."""

from services.monitoring.bootstrap import build
from services.runtime.run import main

if __name__ == "__main__":
    main(build)
