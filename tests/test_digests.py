import hashlib
from pathlib import Path

import pytest

from sersearch.digests import digest, sha256_of, short_digest


def test_digest_is_that_of_the_canonical_json() -> None:
    expected = hashlib.sha256(b'{"a":[1,0.5,null],"b":"Zo\\u00eb"}').hexdigest()
    assert digest({"b": "Zoë", "a": (1, 0.5, None)}) == expected
    assert short_digest({"b": "Zoë", "a": [1, 0.5, None]}) == expected[:16]


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_json_lacks_are_refused(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest([number])


def test_a_file_is_hashed_by_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    assert sha256_of(tmp_path / "file") == hashlib.sha256(b"abc").hexdigest()
