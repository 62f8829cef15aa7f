"""`python -m services.settlement`: settlement alone, on its own port."""

from services.runtime.process.run import main
from services.settlement.manifest import SERVICE

if __name__ == "__main__":
    main(SERVICE)
