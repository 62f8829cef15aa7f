"""`python -m services.events`: the feed alone, on its own port."""

from services.events.bootstrap import build
from services.runtime.run import main

if __name__ == "__main__":
    main(build)
