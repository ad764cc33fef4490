from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sersearch.errors import InputError
from sersearch.study.agenda import FAILED, Agenda, Outcome
from sersearch.study.study import Study, parse_study
from sersearch.study.trial import Trial
from tests.trials import IDENTITY

S = {"name": "s", "model": "S-CLDNN", "h1": "4:9", "h2": "3:4"}
T = {"name": "t", "model": "T-CLDNN", "w1": "3:8", "w2": "2:3"}
ST = {
    "name": "st",
    "model": "ST-CLDNN",
    "h1": "4:9",
    "h2": "3:4",
    "w1": "3:8",
    "w2": "2:3",
    "top": {"k": 3, "h": "s", "w": "t"},
}


def study(*spaces: dict[str, Any], **tables: Any) -> Study:
    return parse_study({"name": "x", "spaces": list(spaces), **tables}, "x.toml")


def score(key: str) -> float:
    """A tabulated trial: its UA depends on its key alone."""
    return int(key[:6], 16) % 10_000 / 100


def outcome(key: str) -> Outcome:
    return Outcome("complete", score(key))


def drain(agenda: Agenda) -> list[str]:
    order = []
    while trial := agenda.take():
        order.append(trial.key)
        agenda.finish(trial.key, outcome(trial.key))
    return order


SVM = {"name": "v", "model": "SVM", "features": "IS09", "kernel": ["linear", "rbf"], "C": [0.1, 1, 10]}


@given(st.lists(st.booleans(), max_size=60))
def test_each_kind_of_trial_is_handed_out_in_its_order(turns: list[bool]) -> None:
    """SVMs take no GPU; which kind's turn it is changes nothing in the order of either."""
    in_order = drain(Agenda(study(S, SVM, T), IDENTITY, {}))
    mixed = study(S, SVM, T, resources={"gpus": 0.5})
    assert mixed.devices == {True, False}
    agenda = Agenda(mixed, IDENTITY, {})
    trials = agenda.trials
    of_kind = {on_gpu: [key for key in in_order if _on_gpu(mixed, trials[key]) == on_gpu] for on_gpu in (True, False)}
    assert len(of_kind[False]) == 6
    for on_gpu in [*turns, *[True] * len(in_order), *[False] * len(in_order)]:
        assert agenda.queued(on_gpu) == len(of_kind[on_gpu])
        trial = agenda.take(on_gpu)
        assert (trial.key if trial else None) == (of_kind[on_gpu].pop(0) if of_kind[on_gpu] else None)
    assert agenda.take() is None


def _on_gpu(study: Study, trial: Trial) -> bool:
    return study.on_gpu(type(trial.configuration))


def test_without_gpus_the_order_is_that_of_the_spaces() -> None:
    for resources in ({}, {"cpus": 2}):
        agenda = Agenda(study(S, SVM, T, resources=resources), IDENTITY, {})
        assert drain(agenda) == list(agenda.trials)


@given(st.data())
def test_any_order_of_completion_any_crash_any_workers_gives_each_trial_once(data: st.DataObject) -> None:
    the_study = study(S, T, ST, seeds=data.draw(st.integers(1, 2)))
    plain = Agenda(the_study, IDENTITY, {})
    expected = set(drain(plain))
    assert plain.complete

    done: dict[str, Outcome] = {}
    trained: list[str] = []
    for _ in range(data.draw(st.integers(1, 4))):
        agenda = Agenda(the_study, IDENTITY, done)
        workers = data.draw(st.integers(1, 5))
        crash_after = data.draw(st.integers(0, 60))
        running: list[str] = []
        while crash_after > 0:
            while len(running) < workers and (trial := agenda.take()):
                running.append(trial.key)
            if not running:
                break
            key = running.pop(data.draw(st.integers(0, len(running) - 1)))
            trained.append(key)
            done[key] = outcome(key)
            agenda.finish(key, done[key])
            crash_after -= 1
    last = Agenda(the_study, IDENTITY, done)
    trained += drain(last)
    assert last.complete
    assert sorted(trained) == sorted(expected)


def test_st_takes_the_top_k_of_s_and_t() -> None:
    agenda = Agenda(study(S, T, ST), IDENTITY, {})
    assert agenda.unsettled == ["st"]
    assert agenda.upper_bound() == 12 + 12 + 9
    spectral, temporal = agenda.spaces["s"], agenda.spaces["t"]
    drain(agenda)
    best_s = sorted(spectral, key=lambda t: -score(t.key))[:3]
    best_t = sorted(temporal, key=lambda t: -score(t.key))[:3]
    expected = {
        (s.configuration.h1, s.configuration.h2, t.configuration.w1, t.configuration.w2)
        for s, t in product(best_s, best_t)
    }
    found = {
        (t.configuration.h1, t.configuration.h2, t.configuration.w1, t.configuration.w2) for t in agenda.spaces["st"]
    }
    assert found == expected
    assert len(agenda.trials) == 33


def test_st_starts_while_the_rest_goes_on() -> None:
    fst = {"name": "fst", "model": "FST-CLDNN", "w1": "3:8", "w2": "2:3"}
    agenda = Agenda(study(S, T, ST, fst), IDENTITY, {})
    for trial in agenda.spaces["s"] + agenda.spaces["t"]:
        agenda.finish(trial.key, outcome(trial.key))
    assert len(agenda.spaces["st"]) == 9
    assert len(agenda.left) == 9 + 12


def test_a_failed_trial_is_an_outcome_and_no_candidate() -> None:
    agenda = Agenda(study(S, T, ST), IDENTITY, {})
    failing = agenda.spaces["s"][0]
    for trial in agenda.spaces["s"] + agenda.spaces["t"]:
        agenda.finish(trial.key, FAILED if trial == failing else outcome(trial.key))
    kernels = {(t.configuration.h1, t.configuration.h2) for t in agenda.spaces["st"]}
    assert (failing.configuration.h1, failing.configuration.h2) not in kernels
    assert agenda.failed == [failing.key]


def test_a_space_listed_before_those_that_it_builds_on_goes_on_after_a_crash() -> None:
    before = Agenda(study(ST, S, T), IDENTITY, {})
    done = {trial.key: outcome(trial.key) for trial in before.spaces["s"] + before.spaces["t"]}
    agenda = Agenda(study(ST, S, T), IDENTITY, done)
    assert len(drain(agenda)) == 9
    assert agenda.complete


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (["complete", "complete"], Outcome("complete", 50, 6, 9)),
        (["complete", "pruned"], Outcome("pruned", 50, 6, 9)),
        (["pruned", "failed"], FAILED),
        (["complete"], None),
    ],
)
def test_the_outcome_of_a_configuration_is_that_of_its_seeds(states: list[Any], expected: Outcome | None) -> None:
    agenda = Agenda(study(S, seeds=2), IDENTITY, {})
    trials = agenda.spaces["s"][:2]
    for trial, state, ua, epochs in zip(trials, states, (40.0, 60.0), (6, 3), strict=False):
        agenda.finish(trial.key, FAILED if state == "failed" else Outcome(state, ua, epochs, 9))
    assert agenda.outcome(trials[0].configuration) == expected


def test_a_configuration_of_two_spaces_is_trained_once() -> None:
    sweep = {"name": "sweep", "model": "S-CLDNN", "h1": "4:30", "h2": 3}
    agenda = Agenda(study(S, sweep), IDENTITY, {})
    assert len(agenda.spaces["s"]) + len(agenda.spaces["sweep"]) == 12 + 27
    assert len(drain(agenda)) == 12 + 27 - 6


def test_infeasible_configurations_are_left_out() -> None:
    agenda = Agenda(study({"name": "s", "model": "S-CLDNN", "h1": "29:33", "h2": 3}), IDENTITY, {})
    assert [t.configuration.h1 for t in agenda.trials.values()] == [29, 30]


@pytest.mark.parametrize("seeds", [1, 3])
def test_extending_trains_only_what_is_new(seeds: int) -> None:
    first = Agenda(study({**T, "w1": "3:5"}, seeds=1), IDENTITY, {})
    done = {key: outcome(key) for key in drain(first)}
    wider = Agenda(study(T, seeds=seeds), IDENTITY, done)
    assert len(drain(wider)) == 12 * seeds - len(done)


FOLDS = {"folds": 5, "validation": 2}


def in_fold(agenda: Agenda, name: str, number: int) -> list[Any]:
    fold = agenda.folds_for(agenda.spaces[name][0].configuration)[number]
    return [trial for trial in agenda.spaces[name] if trial.fold == fold]


def test_each_fold_combines_its_own_best() -> None:
    agenda = Agenda(study(S, T, ST, partition=FOLDS), IDENTITY, {})
    assert agenda.upper_bound() == 5 * (12 + 12 + 9)
    assert [trial.fold.name for trial in agenda.spaces["s"][:13:12]] == ["1 of 5", "2 of 5"]
    assert len(drain(agenda)) == agenda.upper_bound()
    assert agenda.complete
    kernels = set()
    for number in range(5):
        best_s = sorted(in_fold(agenda, "s", number), key=lambda t: -score(t.key))[:3]
        best_t = sorted(in_fold(agenda, "t", number), key=lambda t: -score(t.key))[:3]
        combined = {
            (s.configuration.h1, s.configuration.h2, t.configuration.w1, t.configuration.w2)
            for s, t in product(best_s, best_t)
        }
        found = {(c.h1, c.h2, c.w1, c.w2) for c in (t.configuration for t in in_fold(agenda, "st", number))}
        assert found == combined
        kernels.add(frozenset(found))
    assert len(kernels) > 1


@settings(max_examples=15)
@given(st.data())
def test_a_fold_is_searched_as_if_it_were_alone(data: st.DataObject) -> None:
    """What a fold tries depends on its own results alone, whatever those of other folds are and whenever they come."""
    number = data.draw(st.integers(0, 4))
    luck = data.draw(st.integers(0, 9))
    the_study = study(S, T, ST, partition=FOLDS)
    agenda = Agenda(the_study, IDENTITY, {})
    fold = agenda.folds_for(agenda.spaces["s"][0].configuration)[number]
    running = []
    while True:
        while trial := agenda.take():
            running.append(trial)
        if not running:
            break
        trial = running.pop(data.draw(st.integers(0, min(3, len(running) - 1))))
        ua = score(trial.key) if trial.fold == fold else (score(trial.key) * (luck + 1)) % 100
        agenda.finish(trial.key, Outcome("complete", ua))
    plain = Agenda(the_study, IDENTITY, {})
    drain(plain)
    assert {t.key for t in in_fold(agenda, "st", number)} == {t.key for t in in_fold(plain, "st", number)}


def test_a_sampler_draws_in_each_fold_by_the_folds_outcomes() -> None:
    fst = {"name": "fst", "model": "FST-CLDNN", "w1": "3:8", "w2": "2:3"}
    agenda = Agenda(study(fst, partition=FOLDS, search={"sampler": "random", "trials": 4}), IDENTITY, {})
    grid = list(agenda.study.spaces[0].enumerate({}))
    (space,) = agenda.study.spaces
    names = agenda.source_names(space)
    assert names == [f"fst, fold {number}" for number in range(1, 6)]
    heard: dict[str, list[Any]] = {}

    def source(name: str) -> Any:
        def draw(outcomes: Any) -> list[Any]:
            known = [outcomes(c) for c in grid]
            heard[name] = known
            drawn = [c for c, ended in zip(grid, known, strict=True) if ended]
            return grid[: min(4, len(drawn) + 1)]

        return draw

    agenda.draw_from({name: source(name) for name in names})
    assert agenda.upper_bound() == 5 * 4
    first = agenda.take()
    assert first
    agenda.finish(first.key, Outcome("complete", 50.0))
    told = [name for name, known in heard.items() if any(known)]
    assert told == [f"fst, fold {first.fold.name[0]}"]
    assert len(drain(agenda)) == 5 * 4 - 1
    assert agenda.complete


def test_protocols_are_not_mixed_where_results_decide_what_is_tried() -> None:
    mixed = {"name": "l", "model": "LDNN", "protocol": ["partition", "loso"], "dropout": [0.1, 0.2]}
    study(mixed)
    with pytest.raises(InputError, match="protocols loso and partition"):
        study(mixed, search={"sampler": "random", "trials": 2})
    with pytest.raises(InputError, match="protocols loso and partition"):
        study({**S, "protocol": "loso"}, T, ST)


def test_trials_at_a_time_are_a_grid_s_that_are_left_and_a_window_in_each_fold() -> None:
    fst = {"name": "fst", "model": "FST-CLDNN", "w1": "3:8", "w2": "2:3"}
    sampled = {"sampler": "random", "trials": 9}
    grid = Agenda(study(fst), IDENTITY, {})
    assert (grid.at_a_time(grid.study.spaces[0]), grid.most_at_a_time) == (12, 12)
    open_window = Agenda(study(fst, search=sampled), IDENTITY, {})
    assert (open_window.at_a_time(open_window.study.spaces[0]), open_window.most_at_a_time) == (None, None)
    settled = Agenda(study(fst, search=sampled), IDENTITY, {}, windows={"fst": 4})
    assert settled.most_at_a_time == 4
    folds = Agenda(study(fst, seeds=2, partition=FOLDS, search=sampled | {"window": 4}), IDENTITY, {})
    assert folds.most_at_a_time == 4 * 2 * 5
    few = Agenda(study(fst, search=sampled | {"window": 40}), IDENTITY, {})
    assert few.most_at_a_time == 9, "no more than there are"


def test_trials_at_a_time_of_the_best_of_others_come_after_these() -> None:
    agenda = Agenda(study(S, T, ST), IDENTITY, {})
    at_once = [agenda.at_a_time(space) for space in agenda.study.spaces]
    assert agenda.most_at_a_time == max(at_once[0] + at_once[1], at_once[2])  # type: ignore[operator, type-var]
    drain(agenda)
    assert agenda.most_at_a_time == 0
