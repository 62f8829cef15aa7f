"""`python -m services.orchestration`."""

from services.orchestration.bootstrap import build
from services.runtime.run import main

if __name__ == "__main__":
    main(build)
