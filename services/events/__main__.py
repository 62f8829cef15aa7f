"""`python -m services.events`: the feed alone, on its own port."""

from services.events.manifest import SERVICE
from services.runtime.process.run import main

if __name__ == "__main__":
    main(SERVICE)
