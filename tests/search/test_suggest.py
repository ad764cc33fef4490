"""Samplers on tabulated trials: no Ray, no torch, no files but the record."""

import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from sersearch.errors import InputError
from sersearch.run.storage import Folder
from sersearch.run.suggestions import SLOTS, Suggestions
from sersearch.search.dimensions import optuna_parameters
from sersearch.search.suggest import SAMPLERS, Suggester, tell
from sersearch.study.agenda import FAILED, Agenda, Outcome
from sersearch.study.configuration import Configuration
from sersearch.study.study import Sampler, Study, build, parse_study
from sersearch.study.trial import Trial
from tests.records import forge
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
    settings = {"sampler": "tpe", "trials": 14, "window": 1} | search
    table = {"name": "x", "spaces": list(spaces), "seeds": seeds, "search": settings}
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
        assert study.search.window
        self.suggesters = {
            space.name: Suggester(space, study, study.search.window, partial(self.record, space.name))
            for space in study.spaces
            if study.samples(space)
        }
        self.recorded: list[Configuration] = []
        self.known: dict[str, list[int]] = {name: [] for name in self.suggesters}
        self.told: dict[str, list[list[int]]] = {name: [] for name in self.suggesters}
        self.agenda = Agenda(study, IDENTITY, outcomes)
        self.agenda.draw_from(self.suggesters)

    def record(self, name: str, number: int, configuration: Configuration, known: int) -> None:
        assert number == len(self.known[name])
        self.recorded.append(configuration)
        self.known[name].append(known)
        trials = self.suggesters[name].optuna.get_trials(deepcopy=False)
        self.told[name].append([trial.number for trial in trials if trial.state.is_finished()])

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
        window, seeds = data.draw(st.integers(1, 6), label="window"), data.draw(st.integers(1, 2), label="seeds")
        check_any_order_any_crash(make_study(*spaces, sampler=sampler, window=window, seeds=seeds), data)

    check()


@pytest.mark.parametrize(
    ("sampler", "window"), [*((sampler, 1) for sampler in SAMPLERS), ("tpe", 3), ("qmc", 3), ("tpe", 99)]
)
def test_a_finite_space_ends_with_every_feasible_leaf_once(sampler: str, window: int) -> None:
    study = make_study(CONDITIONAL, sampler=sampler, window=window)
    driver = uninterrupted(study)
    drawn = [trial.configuration for trial in driver.agenda.spaces["c"]]
    feasible = {made for made in study.spaces[0].enumerate({}) if made.shapes.feasible}
    assert len(drawn) == len(set(drawn)) == 9
    assert set(drawn) == feasible
    assert driver.agenda.upper_bound() == 9


def finish_in_any_order(driver: Driver, workers: int, choose: Callable[[int], int]) -> None:
    """Train `workers` trials at a time; `choose` says which of those that run is the next to finish."""
    running: list[Trial] = []
    while True:
        while len(running) < workers and (trial := driver.take()):
            running.append(trial)
        if not running:
            break
        trial = running.pop(choose(len(running)))
        driver.agenda.finish(trial.key, tabulated(trial, driver.study))


@settings(max_examples=20)
@given(st.data())
def test_each_draw_knows_the_window_s_outcomes_and_nothing_more(data: st.DataObject) -> None:
    window, workers = data.draw(st.integers(1, 8), label="window"), data.draw(st.integers(1, 10), label="workers")
    space = {"name": "l", "model": "LDNN", "learning_rate": {"log": [1e-4, 1e-2]}}  # each draw is new and can be built
    driver = Driver(make_study(space, sampler="random", window=window), {})
    finish_in_any_order(driver, workers, lambda most: data.draw(st.integers(0, most - 1), label="first to finish"))
    assert driver.agenda.complete
    assert driver.told["l"] == [list(range(number - window + 1)) for number in range(14)]
    assert driver.known["l"] == [len(told) for told in driver.told["l"]]


@pytest.mark.parametrize("window", [1, 4, 16])
def test_it_draws_as_plain_optuna_with_a_constant_liar(window: int) -> None:
    space = {"name": "l", "model": "LDNN", "learning_rate": {"log": [1e-4, 1e-2]}, "dropout": {"linear": [0, 0.5]}}
    study = make_study(space, trials=40, window=window)
    driver = Driver(study, {})
    chance = random.Random(window)
    finish_in_any_order(driver, 8, chance.randrange)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(multivariate=True, group=True, constant_liar=True, seed=0)
    plain = optuna.create_study(sampler=sampler, direction="maximize")
    asked: list[optuna.Trial] = []
    for number, trial in enumerate(driver.agenda.spaces["l"]):
        if number >= window:
            known = driver.agenda.spaces["l"][number - window]
            tell(plain, asked[number - window], tabulated(known, study))
        asked.append(plain.ask())
        values = {
            "learning_rate": asked[-1].suggest_float("learning_rate", 1e-4, 1e-2, log=True),
            "dropout": asked[-1].suggest_float("dropout", 0, 0.5),
        }
        assert values == {name: getattr(trial.configuration, name) for name in values}


def test_earlier_suggestions_are_handed_out_first() -> None:
    """A window waits for its oldest trial, which newer ones may not overtake."""
    driver = Driver(make_study(ENDLESS, window=6), {})
    first = driver.take()
    assert first
    driver.agenda.finish(first.key, tabulated(first, driver.study))
    order = [first.key]
    while trial := driver.take():
        order.append(trial.key)
    assert order == driver.sequence()["e"]
    assert len(order) == 7


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
        if made == driver.recorded[-1]:
            assert trial.state is TrialState.RUNNING, "the last one's outcome decides nothing"
        elif outcome.state == "failed":
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
    few = uninterrupted(make_study(ENDLESS, trials=7, window=3)).sequence()["e"]
    many = uninterrupted(make_study(ENDLESS, trials=16, window=3)).sequence()["e"]
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
        ({"search": {"window": 9}}, "search: window = 9 was given, but a grid waits for nothing"),
        ({"search": {"sampler": "gp", "trials": 9, "window": 0}}, "search.window: 0 was given"),
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
        record.add("e", number, configuration, known=number)
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


def test_the_window_follows_the_slots_at_first_launch_and_stays(tmp_path: Path, drawn: list[Configuration]) -> None:
    study, storage = make_study(ENDLESS, window=None), Folder(tmp_path)
    record = Suggestions(storage, study)
    assert record.windows == {}
    record.launch(slots=4)
    assert record.windows == {"e": 8}
    later = Suggestions(storage, study)
    later.launch(slots=64)
    assert later.windows == {"e": 8}
    later.add("e", 0, drawn[0], known=0)
    (tmp_path / SLOTS).unlink()
    without_slots = Suggestions(storage, study)
    without_slots.launch(slots=64)
    assert without_slots.windows == {"e": 8}
    assert not (tmp_path / SLOTS).exists(), "nothing is left to follow them"


def test_a_space_on_gpus_has_a_window_for_the_gpus_alone(tmp_path: Path) -> None:
    """The slots of trials that take none are many more."""
    spaces = [ENDLESS, {"name": "v", "model": "SVM", "features": "IS09", "C": {"log": [0.1, 10.0]}}]
    table = {"name": "x", "spaces": spaces, "resources": {"gpus": 0.5}, "search": {"sampler": "random", "trials": 90}}
    record = Suggestions(Folder(tmp_path), parse_study(table, "x.toml"))
    record.launch(slots=64, on_gpus=4)
    assert record.windows == {"e": 8, "v": 128}
    assert Suggestions(Folder(tmp_path), parse_study(table, "x.toml")).windows == record.windows


def test_a_window_leaves_room_for_the_seeds_and_for_what_the_study_says(tmp_path: Path) -> None:
    record = Suggestions(Folder(tmp_path), make_study(ENDLESS, window=None, seeds=3))
    record.launch(slots=4)
    assert record.windows == {"e": 3}, "nine trials at a time for four slots"
    assert Suggestions(Folder(tmp_path), make_study(ENDLESS, window=5)).windows == {"e": 5}


def test_a_suggestion_of_another_window_is_named(tmp_path: Path, drawn: list[Configuration]) -> None:
    study = make_study(ENDLESS, window=None)
    record = Suggestions(Folder(tmp_path), study)
    record.launch(slots=1)
    for number in range(3):
        record.add("e", number, drawn[number], known=max(0, number - 1))
    *_, last = sorted(tmp_path.glob("suggestions/*/*.json"))
    forge(last, lambda content: content.update(window=3, known=0))
    with pytest.raises(InputError, match=r"000002.json is another suggestion: delete the folder"):
        Suggestions(Folder(tmp_path), study)
    forge(last, lambda content: content.update(window=3, known=1))
    with pytest.raises(InputError, match=r"000002.json is damaged .*suggestion 2 of a window of 3 does not know 1"):
        Suggestions(Folder(tmp_path), study)
