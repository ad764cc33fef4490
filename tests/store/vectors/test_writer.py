from pathlib import Path

from sersearch.store.lock import locked
from tests.store.vectors.helpers import refused


def test_two_writers_at_once(added: Path, copy: Path, tiny_corpus: Path) -> None:
    with locked(copy):
        assert "another build is running there" in refused("--corpus", f"tiny={tiny_corpus}", "--out", copy)
