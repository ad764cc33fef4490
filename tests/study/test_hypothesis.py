"""A study names its comparison; what can't be meant is refused in one line."""

from typing import Any

import pytest

from sersearch.errors import InputError
from sersearch.study.hypothesis import PAPERS_CLAIM
from sersearch.study.study import Study, parse_study

SPACES = [
    {"name": "s", "model": "S-CLDNN", "h1": 4, "h2": 3},
    {"name": "t", "model": "T-CLDNN", "w1": 3, "w2": 2},
    {"name": "st", "model": "ST-CLDNN", "h1": 4, "h2": 3, "w1": 3, "w2": 2},
    {"name": "fst", "model": "FST-CLDNN", "w1": 3, "w2": 2},
]


def study(hypothesis: dict[str, Any]) -> Study:
    return parse_study({"name": "claim", "spaces": SPACES, "hypothesis": hypothesis}, "claim.toml")


def test_the_papers_claim_in_its_own_words() -> None:
    found = study({"order": ["S", ["T", "ST"], "FST"]})
    assert found.hypothesis
    assert found.hypothesis.resolve(found.models) == PAPERS_CLAIM
    assert PAPERS_CLAIM.levels == {"S-CLDNN": 0, "T-CLDNN": 1, "ST-CLDNN": 1, "FST-CLDNN": 2}
    assert parse_study(found.model_dump(mode="json"), "run.json") == found


@pytest.mark.parametrize(
    ("hypothesis", "message"),
    [
        ({"order": ["S"]}, "order"),
        ({"order": ["S", "S"]}, "order names S twice: give each model one level"),
        ({"order": ["S", "LDNN"]}, "no space trains LDNN"),
        ({"order": ["S-CLDN", "T"]}, "S-CLDNN"),
        ({"order": ["S", "T"], "on": ["wa"]}, "on"),
        ({"order": ["S", "T"], "on": ["ua", "ua"]}, "names a measure twice"),
        ({"order": ["S", "T"], "measures": ["ua"]}, "hypothesis: "),
        ({"order": ["S", "T"], "ua": 100}, "less than 100"),
    ],
)
def test_what_cannot_be_meant_is_one_line(hypothesis: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        study(hypothesis)
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith("claim.toml: ")
