"""What the tests of the documentation share: their own modules and the scripts of the site."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# with --import-mode=importlib neither this folder nor that of the site's scripts is importable
for folder in (HERE, HERE.parents[1] / "docs" / "scripts"):
    sys.path.insert(0, str(folder))
