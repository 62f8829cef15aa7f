"""`python -m services.agreements`: agreements alone, on its own port."""

from services.agreements.manifest import SERVICE
from services.runtime.process.run import main

if __name__ == "__main__":
    main(SERVICE)
