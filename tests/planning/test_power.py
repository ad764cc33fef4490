"""A plan says what its design can show before anything is trained."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sersearch.cli import app
from sersearch.planning.plan import PAPERS_DATA, make_plan
from sersearch.planning.power import DesignPower, design_power
from sersearch.statistics.power import Luck, contrast_power, pair_power, smallest_difference
from sersearch.study.agenda import Agenda
from sersearch.study.fold import Fold
from sersearch.study.study import Study, load_study, parse_study
from sersearch.study.trial import Trial

SHIPPED = Path(__file__).parents[2] / "search_spaces"
SPACES = [
    {"name": "s", "model": "S-CLDNN", "h1": 4, "h2": 3},
    {"name": "t", "model": "T-CLDNN", "w1": 3, "w2": 2},
    {"name": "st", "model": "ST-CLDNN", "h1": 4, "h2": 3, "w1": 3, "w2": 2},
    {"name": "fst", "model": "FST-CLDNN", "w1": 3, "w2": 2},
]
CLAIM = {"order": ["S", ["T", "ST"], "FST"], "ua": 60}


def study(seeds: int = 1, hypothesis: dict[str, Any] | None = None) -> Study:
    table: dict[str, Any] = {"name": "x", "spaces": SPACES, "seeds": seeds}
    return parse_study(table | ({"hypothesis": hypothesis} if hypothesis else {}), "x.toml")


def power(speakers: int, folds: int, of_study: Study, tested: int | None = None, utterances: int = 48) -> DesignPower:
    """The power of a study whose folds test every speaker once, or of one that tests some of them."""
    names = [f"s{number:02}" for number in range(speakers)]
    parts = [names[start::folds] for start in range(folds)] if tested is None else [names[:tested]]
    made = [Fold(train=("x",), validation=("y",), test=tuple(sorted(part))) for part in parts]
    agenda = Agenda(of_study, PAPERS_DATA.identity, {})
    trials = {
        name: [Trial(configuration=trials[0].configuration, fold=fold, data="") for fold in made]
        for name, trials in agenda.spaces.items()
    }
    found = design_power(of_study, trials, speakers, speakers * utterances)
    assert found
    return found


def test_folds_of_ravdess_have_the_power_of_their_design() -> None:
    found = power(24, 12, study(2, CLAIM))
    assert (found.folds, found.units, found.speakers, found.rows) == (12, 12, 24, 4)
    sd = Luck(2, ua=60).sd(2, 2, 48)
    assert found.sd == sd
    assert found.contrast == contrast_power([0, 1, 1, 2], 3.5, sd, 12, 0.025)
    assert (found.pair, found.smallest) == (pair_power(3.5, sd, 12, 4), smallest_difference(sd, 12, 4))
    assert found.statements[0] == (
        "design: 12 folds test 24 of 24 speakers, 48 clean utterances each, 2 seeds, 4 rows per condition"
    )
    assert "luck of training 2 points" in found.statements[1]
    assert found.statements[2].startswith(
        f"power: about {100 * (found.contrast or 0):.0f} % for hypothesis: S > {{T, ST}} > FST"
    )
    one_measure = power(24, 12, study(2, CLAIM | {"on": ["loss"]}))
    assert (one_measure.contrast or 0) > (found.contrast or 1)


@pytest.mark.parametrize(
    ("speakers", "folds", "tested", "warning"),
    [
        (10, 1, 2, "2 test speakers: no difference can be shown; folds = 5 in [partition] tests all 10"),
        (24, 1, 5, "5 test speakers: no difference can be shown; folds = 12 in [partition] tests all 24"),
        (42, 1, 8, "one partition: differences are of these trained systems, not of their kinds; folds = 14 in"),
        (10, 5, None, "5 folds: no difference between two rows can be shown; that takes 6 folds"),
    ],
)
def test_a_design_that_shows_nothing_is_a_warning_with_a_remedy(
    speakers: int, folds: int, tested: int | None, warning: str
) -> None:
    found = power(speakers, folds, study(), tested)
    assert any(each.startswith(warning) for each in found.warnings)
    assert (found.smallest is None) is (found.units < 6)
    assert found.facts()["warnings"] == list(found.warnings)


def test_the_hypothesis_is_warned_of_where_it_cannot_or_will_hardly_be_shown() -> None:
    assert any("order of the hypothesis can't be shown" in each for each in power(4, 1, study(1, CLAIM), 1).warnings)
    weak = power(24, 12, study(1, CLAIM))
    assert any(each.startswith("the hypothesis is shown in ") for each in weak.warnings)
    assert power(24, 12, study(3, CLAIM | {"difference": 20})).warnings == ()
    assert power(24, 12, study()).warnings == (), "no hypothesis is named"
    assert not power(24, 12, study()).named


def test_the_plan_of_the_paper_prints_its_power_and_gives_it_to_machines() -> None:
    plan = make_plan(Agenda(load_study(SHIPPED / "paper.toml"), PAPERS_DATA.identity, {}), PAPERS_DATA)
    assert plan.power
    assert (plan.power.rows, plan.power.speakers, plan.power.named) == (9, 8, True)
    said = CliRunner().invoke(app, ["plan", str(SHIPPED / "paper.toml")]).output
    for sentence in (*plan.power.statements, *plan.power.warnings):
        assert sentence in said
    facts = CliRunner().invoke(app, ["plan", str(SHIPPED / "paper.toml"), "--format", "json"]).output
    assert '"smallest_difference": ' in facts


def test_what_is_left_out_one_by_one_only_has_no_leaderboard_to_plan() -> None:
    spaces = [{"name": "s", "model": "S-CLDNN", "h1": 4, "h2": 3, "protocol": "loso"}]
    made = parse_study({"name": "x", "spaces": spaces}, "x.toml")
    assert make_plan(Agenda(made, PAPERS_DATA.identity, {}), PAPERS_DATA).power is None
