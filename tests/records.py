"""Records that somebody changed by hand, and whose hash was computed again: what a reader can't notice."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sersearch.digests import digest
from sersearch.run.records import DIGEST


def forge(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a record and compute its hash again.

    Args:
        path: the record's file.
        change: changes the record's content in its place.
    """
    content = json.loads(path.read_text())
    del content[DIGEST]
    change(content)
    path.write_text(json.dumps(content | {DIGEST: digest(content)}))
