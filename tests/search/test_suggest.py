"""Samplers on tabulated trials: no Ray, no torch, no files but the record."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from sersearch.errors import InputError
from sersearch.run.storage import Folder
from sersearch.run.suggestions import Suggestions
from sersearch.search.dimensions import optuna_parameters
from sersearch.search.suggest import SAMPLERS, Suggester
from sersearch.study.agenda import FAILED, Agenda, Outcome
from sersearch.study.configuration import Configuration
from sersearch.study.study import Sampler, Study, build, parse_study
from sersearch.study.trial import Trial
from tests.trials import IDENTITY

# Ten leaves, of which S with h1 = 31 can't be built.
CONDITIONAL = {
    "name": "c",
    "model": ["S-CLDNN", "T-CLDNN"],
    "h1": "27:31",
    "h2": 3,
    "w1": "3:7",
    "w2": 2,
}
ENDLESS = {
    "name": "e",
    "model": ["LDNN", "T-CLDNN"],
    "features": ["log-mels", "mfccs"],
    "w1": [3, 5, 8],
    "w2": 2,
    "learning_rate": {"log": [1e-4, 1e-2]},
    "cells": {"log": [8, 64]},
    "dense": [[32, 32], [64]],
}
SMALL = {"name": "small", "model": "T-CLDNN", "w1": "3:5", "w2": 2}


def make_study(*spaces: dict[str, Any], seeds: int = 1, **search: Any) -> Study:
    table = {"name": "x", "spaces": list(spaces), "seeds": seeds, "search": {"sampler": "tpe", "trials": 14} | search}
    return parse_study(table, "x.toml")


def tabulated(trial: Trial, study: Study) -> Outcome:
    """What training would give: of eight trials about one fails and one is pruned."""
    ua, luck = int(trial.key[:6], 16) % 10_000 / 100, int(trial.key[6:10], 16) % 8
    if luck == 0:
        return FAILED
    pruned = luck == 1 and study.search.sampler != "nsga-ii"
    return Outcome("pruned" if pruned else "complete", ua, 1 + luck, int(trial.key[10:], 16) % 1000)


class Driver:
    """An agenda with samplers at work, as a search has it; the record is a list in memory."""

    def __init__(self, study: Study, outcomes: Mapping[str, Outcome]) -> None:
        self.study = study
        self.suggesters = {s.name: Suggester(s, study, self.record) for s in study.spaces if study.samples(s)}
        self.recorded: list[Configuration] = []
        self.agenda = Agenda(study, IDENTITY, outcomes)
        self.agenda.draw_from(self.suggesters)

    def record(self, number: int, configuration: Configuration) -> None:
        self.recorded.append(configuration)

    def take(self) -> Trial | None:
        trial = self.agenda.take()
        if any(trial in self.agenda.spaces[name] for name in self.suggesters):
            assert trial
            assert trial.configuration in self.recorded, "handed out before it was recorded"
        return trial

    def drain(self) -> list[str]:
        order = []
        while trial := self.take():
            order.append(trial.key)
            self.agenda.finish(trial.key, tabulated(trial, self.study))
        return order

    def sequence(self) -> dict[str, list[str]]:
        return {name: [trial.key for trial in trials] for name, trials in self.agenda.spaces.items()}


def uninterrupted(study: Study) -> Driver:
    driver = Driver(study, {})
    driver.drain()
    return driver


def check_any_order_any_crash(study: Study, data: st.DataObject) -> None:
    """However many workers, whatever order, wherever killed: the same sequence, each trial once."""
    expected = uninterrupted(study)
    assert expected.agenda.complete
    done: dict[str, Outcome] = {}
    trained: list[str] = []
    for _ in range(data.draw(st.integers(0, 3), label="kills")):
        driver, running = Driver(study, done), list[Trial]()
        workers = data.draw(st.integers(1, 5), label="workers")
        for _ in range(data.draw(st.integers(0, 12), label="trials until the kill")):
            while len(running) < workers and (trial := driver.take()):
                running.append(trial)
            if not running:
                break
            trial = running.pop(data.draw(st.integers(0, len(running) - 1), label="first to finish"))
            trained.append(trial.key)
            done[trial.key] = tabulated(trial, study)
            driver.agenda.finish(trial.key, done[trial.key])
    last = Driver(study, done)
    trained += last.drain()
    assert last.agenda.complete
    assert last.sequence() == expected.sequence()
    assert len(trained) == len(set(trained)) == len(expected.agenda.trials)


def test_each_sampler_that_a_study_can_name_is_in_the_table() -> None:
    assert SAMPLERS.keys() == set(get_args(Sampler)) - {"grid"}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_sequence_is_the_same_whatever_happens(sampler: str) -> None:
    spaces = (ENDLESS, SMALL) if sampler == "gp" else (CONDITIONAL, ENDLESS, SMALL)  # a GP takes its time

    @settings(max_examples=4 if sampler == "gp" else 10)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        batch, seeds = data.draw(st.integers(1, 4), label="batch"), data.draw(st.integers(1, 2), label="seeds")
        check_any_order_any_crash(make_study(*spaces, sampler=sampler, batch=batch, seeds=seeds), data)

    check()


@pytest.mark.parametrize(("sampler", "batch"), [*((sampler, 1) for sampler in SAMPLERS), ("tpe", 3), ("qmc", 3)])
def test_a_finite_space_ends_with_every_feasible_leaf_once(sampler: str, batch: int) -> None:
    study = make_study(CONDITIONAL, sampler=sampler, batch=batch)
    driver = uninterrupted(study)
    drawn = [trial.configuration for trial in driver.agenda.spaces["c"]]
    feasible = {made for made in study.spaces[0].enumerate({}) if made.shapes.feasible}
    assert len(drawn) == len(set(drawn)) == 9
    assert set(drawn) == feasible
    assert driver.agenda.upper_bound() == 9


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("space", [CONDITIONAL, ENDLESS], ids=["conditional", "endless"])
def test_every_trial_is_told_the_truth(sampler: str, space: dict[str, Any]) -> None:
    study = make_study(space, sampler=sampler, trials=30 if sampler != "gp" else 7)
    driver = uninterrupted(study)
    (suggester,) = driver.suggesters.values()
    defaults = {name: found.choices[0] for name, found in study.spaces[0].ranges.items() if len(found.choices) == 1}
    seen = set()
    for trial in suggester.optuna.trials:
        model = trial.params["model"]
        free = next(free for fixed, free in study.spaces[0].conditions({}) if fixed["model"] == model)
        chosen: dict[str, Any] = {name: value for name, value in defaults.items() if name in free}
        for name, value in trial.params.items():
            chosen[name] = [int(width) for width in value.split("-")] if name == "dense" else value
        made = build(study.spaces[0], chosen)
        outcome = tabulated(driver.agenda.trials_of(made)[0], study) if made else FAILED
        if outcome.state == "failed":
            assert trial.state is TrialState.FAIL
        elif outcome.state == "pruned":
            assert trial.state is TrialState.PRUNED
            assert trial.value == trial.intermediate_values[outcome.epochs] == outcome.ua
        else:
            assert trial.state is TrialState.COMPLETE
            assert trial.values == [outcome.ua, outcome.parameters][: 2 if sampler == "nsga-ii" else 1]
        if made:
            seen.add(made)
    assert seen == {trial.configuration for trial in driver.agenda.trials.values()}


@pytest.mark.parametrize("sampler", ["random", "tpe", "cma-es"])
def test_no_dimension_is_wasted(sampler: str) -> None:
    driver = uninterrupted(make_study(CONDITIONAL, ENDLESS, sampler=sampler))
    own = {
        ("c", "S-CLDNN"): {"model", "h1"},
        ("c", "T-CLDNN"): {"model", "w1"},
        ("e", "LDNN"): {"model", "features", "learning_rate", "cells", "dense"},
        ("e", "T-CLDNN"): {"model", "features", "learning_rate", "cells", "dense", "w1"},
    }
    for name, suggester in driver.suggesters.items():
        for trial in suggester.optuna.trials:
            assert set(trial.params) == own[name, trial.params["model"]]


def test_ranges_become_the_distributions_that_fit() -> None:
    driver = uninterrupted(make_study({**ENDLESS, "maps": [8, 16, 24], "patience": [2, 3, 5]}))
    trials = driver.suggesters["e"].optuna.trials
    found = {name: each for trial in trials for name, each in trial.distributions.items()}
    assert found["learning_rate"] == FloatDistribution(1e-4, 1e-2, log=True)
    assert found["cells"] == IntDistribution(8, 64, log=True)
    assert found["maps"] == IntDistribution(8, 24, step=8)
    assert found["patience"] == CategoricalDistribution([2, 3, 5])
    assert found["dense"] == CategoricalDistribution(["32-32", "64"])
    assert {trial.configuration.dense for trial in driver.agenda.trials.values()} == {(32, 32), (64,)}


def test_a_configuration_and_its_parameters_say_the_same() -> None:
    spaces = (CONDITIONAL, ENDLESS, {"name": "m", "model": "ST-CLDNN", "h1": [4, "M"], "w1": 3, "h2": 1, "w2": 2})
    study = make_study(*spaces)
    driver = uninterrupted(study)
    for space in study.spaces:
        for trial in driver.agenda.spaces[space.name]:
            values, distributions = optuna_parameters(trial.configuration, space)
            assert values.keys() == distributions.keys()
            assert all(distributions[n]._contains(distributions[n].to_internal_repr(v)) for n, v in values.items())


def test_more_trials_go_on_where_fewer_ended() -> None:
    few = uninterrupted(make_study(ENDLESS, trials=7, batch=3)).sequence()["e"]
    many = uninterrupted(make_study(ENDLESS, trials=16, batch=3)).sequence()["e"]
    assert len(few) == 7
    assert many[:7] == few


def test_the_seed_counts_and_the_outcomes_do() -> None:
    first, other = (uninterrupted(make_study(ENDLESS, seed=seed)).sequence() for seed in (0, 1))
    assert first != other
    study = make_study(ENDLESS, trials=20)
    flat = Driver(study, {})
    while trial := flat.take():
        flat.agenda.finish(trial.key, Outcome("complete", -trial.configuration.learning_rate, 1))
    assert flat.sequence() != uninterrupted(study).sequence()


def test_tpe_finds_more_than_chance_does() -> None:
    def median(sampler: str) -> float:
        study = make_study(ENDLESS, sampler=sampler, trials=60)
        driver, distances = Driver(study, {}), []
        while trial := driver.take():
            distances.append(abs(trial.configuration.learning_rate - 2e-4) + abs(trial.configuration.cells - 48) / 1e5)
            driver.agenda.finish(trial.key, Outcome("complete", -1000 * distances[-1], 1))
        return sorted(distances[30:])[15]

    assert median("tpe") < median("random") / 2


def test_seeds_are_told_as_their_mean() -> None:
    study = make_study(SMALL, seeds=3, trials=2)
    driver = Driver(study, {})
    asked = [driver.take() for _ in range(3)]
    assert driver.take() is None
    for trial, ua in zip(asked, (60.0, 30.0, 75.0), strict=True):
        assert trial
        assert len(driver.recorded) == 1
        driver.agenda.finish(trial.key, Outcome("complete", ua, 5, 7))
    assert driver.suggesters["small"].optuna.trials[0].value == 55
    assert len(driver.recorded) == 2


def test_spaces_of_the_top_are_exhausted_once_the_sampled_ones_are_whole() -> None:
    s = {"name": "s", "model": "S-CLDNN", "h1": "4:20", "h2": "3:4"}
    t = {"name": "t", "model": "T-CLDNN", "w1": "3:8", "w2": "2:3"}
    both = {"h1": "4:20", "h2": "3:4", "w1": "3:8", "w2": "2:3"}
    top = {"name": "st", "model": "ST-CLDNN", **both, "top": {"k": 2, "h": "s", "w": "t"}}
    agenda = uninterrupted(make_study(top, s, t, trials=8)).agenda
    assert agenda.complete
    assert {name: len(trials) for name, trials in agenda.spaces.items()} == {"s": 8, "t": 8, "st": 4}


def test_whole_numbers_from_an_interval_run_out() -> None:
    driver = uninterrupted(make_study({"name": "l", "model": "LDNN", "cells": {"linear": [3.5, 6]}}))
    assert sorted(trial.configuration.cells for trial in driver.agenda.trials.values()) == [4, 5, 6]
    assert driver.agenda.complete


def test_a_space_without_anything_to_build_says_so() -> None:
    hopeless = {"name": "h", "model": "S-CLDNN", "h1": 31, "h2": 3, "dropout": {"linear": [0.1, 0.2]}}
    with pytest.raises(
        InputError, match=r"space h: after 0 configurations, 1000 suggestions in a row were known or can't"
    ):
        Driver(make_study(hopeless), {})


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"search": {"sampler": "tpe"}}, "search: the sampler tpe needs trials"),
        ({"search": {"trials": 9}}, "search: trials = 9 was given, but a grid is trained whole"),
        ({"search": {"sampler": "nsga-ii", "trials": 9, "pruner": "asha"}}, "search: pruner = asha was given"),
        ({"search": {"sampler": "gp", "trials": 0}}, "search.trials: 0 was given"),
        ({"search": {"sampler": "gp", "trials": 9, "seeed": 0}}, "search: unknown key seeed; did you mean seed?"),
        ({"learning_rate": {"log": [1e-3, 1e-2]}}, "space l holds an interval, which a grid can't exhaust"),
        ({"normalisation": {"linear": [0, 1]}}, "normalisation is not a number"),
        ({"cells": {"linear": [4.1, 4.9]}}, "cells is a whole number, and there is none from 4.1 to 4.9"),
        (
            {"dropout": {"linear": [0.5, 1.5]}, "search": {"sampler": "gp", "trials": 9}},
            "space l: dropout: 1.5 was given",
        ),
    ],
)
def test_what_a_study_gets_wrong(tables: dict[str, Any], message: str) -> None:
    space = {"name": "l", "model": "LDNN"} | {name: tables[name] for name in tables if name != "search"}
    with pytest.raises(InputError) as caught:
        parse_study({"name": "x", "spaces": [space], "search": tables.get("search", {})}, "x.toml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def written(run: Path, study: Study, drawn: Sequence[Configuration]) -> Suggestions:
    record = Suggestions(Folder(run), study)
    for number, configuration in enumerate(drawn):
        record.add("e", number, configuration)
    return record


@pytest.fixture
def drawn() -> list[Configuration]:
    return uninterrupted(make_study(ENDLESS)).recorded


def test_a_reader_knows_the_trials_from_the_record_alone(tmp_path: Path, drawn: list[Configuration]) -> None:
    study = make_study(ENDLESS)
    written(tmp_path, study, drawn)
    record = Suggestions(Folder(tmp_path), study).drawn
    driver = uninterrupted(study)
    outcomes = {key: tabulated(trial, study) for key, trial in driver.agenda.trials.items()}
    assert Agenda(study, IDENTITY, outcomes, record).complete
    assert Agenda(study, IDENTITY, outcomes, record).spaces == driver.agenda.spaces
    missing = Agenda(study, IDENTITY, outcomes, {"e": record["e"][:13]})
    assert (missing.complete, missing.left, missing.upper_bound()) == (False, [], 14)
    fewer = Agenda(make_study(ENDLESS, trials=5), IDENTITY, outcomes, record)
    assert (fewer.complete, len(fewer.trials)) == (True, 5)


@settings(max_examples=30)
@given(st.data())
def test_an_interrupted_record_is_continued(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    study, drawn = make_study(ENDLESS), uninterrupted(make_study(ENDLESS, trials=4)).recorded
    run = tmp_path_factory.mktemp("record")
    whole = data.draw(st.integers(0, len(drawn)), label="suggestions that were written")
    written(run, study, drawn[:whole])
    before = objects(run)
    assert Suggestions(Folder(run), study).drawn["e"] == drawn[:whole]
    assert objects(run) == before, "a reader wrote"
    written(run, study, drawn)
    assert Suggestions(Folder(run), study).drawn["e"] == drawn
    assert before.items() <= objects(run).items(), "what was on record was written again"


def objects(run: Path) -> dict[str, int]:
    """When each suggestion was written."""
    return {str(path): path.stat().st_mtime_ns for path in run.rglob("*.json")}


def test_what_is_drawn_now_counts(tmp_path: Path, drawn: list[Configuration]) -> None:
    study, storage = make_study(ENDLESS), Folder(tmp_path)
    written(tmp_path, study, drawn[:5])
    record = written(tmp_path, study, [*drawn[:2], drawn[7]])
    assert record.drawn["e"] == [*drawn[:2], drawn[7]]
    assert Suggestions(storage, study).drawn == record.drawn
    assert Suggestions(storage, make_study(ENDLESS, seed=1)).drawn == {"e": []}
    assert Suggestions(storage, make_study({**ENDLESS, "w1": [3, 5]})).drawn == {"e": []}
    assert Suggestions(storage, make_study(ENDLESS, trials=99)).drawn == record.drawn


def test_a_damaged_record_is_named(tmp_path: Path, drawn: list[Configuration]) -> None:
    study = make_study(ENDLESS)
    written(tmp_path, study, drawn[:3])
    first, second, _ = sorted(tmp_path.rglob("*.json"))
    content = second.read_text()
    second.write_text(content[:40])
    with pytest.raises(InputError, match=r"000001.json is damaged .* delete .*, and a resumed search writes it again"):
        Suggestions(Folder(tmp_path), study)
    second.write_text(content)
    first.unlink()
    with pytest.raises(InputError, match=r"000000.json is missing: delete the folder"):
        Suggestions(Folder(tmp_path), study)
