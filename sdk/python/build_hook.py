"""Takes the generated messages into the package where they are: in gen/ of the repository, or in an unpacked sdist."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "payments_sdk"


class Messages(BuildHookInterface[Any]):
    """Adds the package of messages, which stands in the repository once."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name its folder to the build."""
        root = Path(self.root)
        places = (root / PACKAGE, root.parents[1] / "gen/sdk" / PACKAGE)
        found = next((place for place in places if (place / "py.typed").is_file()), None)
        if found is None:
            raise FileNotFoundError(f"the messages are missing: run `make generate` ({places[1]})")
        build_data["force_include"][str(found)] = PACKAGE
