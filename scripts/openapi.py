"""Write the OpenAPI document that the page's types are generated from: `web/openapi.json`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from foreshock import __version__
from foreshock.api.openapi import document
from foreshock.api.routes import ROUTES

PATH = Path(__file__).parents[1] / "web/openapi.json"


def main() -> int:
    """Write it, and say where."""
    PATH.write_text(json.dumps(document(ROUTES, __version__), indent=1, ensure_ascii=False) + "\n")
    sys.stdout.write(f"{PATH}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
