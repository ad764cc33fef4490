"""Schedules against hand-made cases and bounds that hold for any; fits against planted costs."""

import dataclasses
from functools import cache
from typing import get_args

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sersearch.planning.calibration import calibrate, spread
from sersearch.planning.forecast import (
    START_S,
    TRIAL_S,
    WORKER_S,
    Job,
    Measurement,
    Rates,
    Spent,
    draw_epochs,
    fit,
    make_forecast,
    makespan,
    pace_of,
    relative_cost,
    seconds_left,
)
from sersearch.planning.plan import PAPERS_DATA, make_plan
from sersearch.planning.tasks import Task, in_order, tasks
from sersearch.study.agenda import FEW_PER_SLOT, Agenda, Outcome
from sersearch.study.configuration import Configuration, NetworkConfiguration
from sersearch.study.configuration.network import Normalisation
from sersearch.training.system import system_class
from tests.planning.test_plan import ST, S, T, shipped, study
from tests.trials import IDENTITY

FST = NetworkConfiguration(model="FST-CLDNN", w1=3, w2=2)
FIXED = FST.model_copy(update={"epochs": 2})


def work(configuration: Configuration) -> np.ndarray:
    return np.array(configuration.work())


EXACT = Rates(np.array([0, 0, 1e-9, 0]), np.array([0, 0, 1e-10, 0]), 0.0, 10)


@pytest.mark.parametrize(
    ("jobs", "parallel", "expected"),
    [
        ([], 3, 0),
        ([Job(5)], 1, 5),
        ([Job(5)], 4, 5),
        ([Job(1), Job(2), Job(3)], 1, 6),
        ([Job(1), Job(2), Job(3)], 2, 4),  # 3 follows 1
        ([Job(3), Job(2), Job(1)], 2, 3),
        ([Job(2, ("s",)), Job(5, ("t",)), Job(1, ("st",), ("s", "t"))], 8, 6),
        ([Job(2, ("s",)), Job(5, ("t",)), Job(1, ("st",), ("s", "t")), Job(3, ("fst",))], 2, 6),  # fst fills s's slot
        ([Job(4, ("st",), ("s",)), Job(1, ("s",)), Job(2, ("t",)), Job(2, ("t",))], 1, 9),
        ([Job(1, ("s", "sweep")), Job(1, ("sweep",)), Job(1, ("st",), ("s",))], 2, 2),  # s is done, its sweep is not
        ([Job(1, ("st",), ("done",))], 1, 1),  # what it waits for is done already
        ([Job(2), Job(3, on_gpu=True)], 1, 5),
    ],
)
def test_schedules_made_by_hand(jobs: list[Job], parallel: int, expected: float) -> None:
    assert makespan(jobs, parallel) == expected
    assert makespan(jobs, parallel, 7.0) == (expected + 7 if jobs else 0)


@pytest.mark.parametrize(
    ("on_gpus", "parallel", "expected"),
    [
        (1, 3, 8),  # one GPU for both, while two slots take the others
        (2, 3, 5),  # two GPUs: one slot takes the others, and the GPUs' slots the last ones
        (2, 2, 7),  # both slots are for GPUs first
        (1, 1, 14),
    ],
)
def test_jobs_on_gpus_and_others_share_the_slots(on_gpus: int, parallel: int, expected: int) -> None:
    jobs = [*[Job(1)] * 6, Job(4, on_gpu=True), Job(4, on_gpu=True)]
    assert makespan(jobs, parallel, on_gpus=on_gpus) == expected


seconds = st.integers(0, 50)


@given(st.lists(seconds), st.lists(seconds), st.lists(seconds), st.integers(1, 6), st.permutations(range(3)))
def test_a_schedule_keeps_its_bounds(
    first: list[int], second: list[int], last: list[int], parallel: int, order: list[int]
) -> None:
    groups = [
        [Job(s, ("s",)) for s in first],
        [Job(s, ("t",)) for s in second],
        [Job(s, ("st",), ("s", "t")) for s in last],
    ]
    jobs = [job for index in order for job in groups[index]]
    found, total = makespan(jobs, parallel), sum(job.seconds for job in jobs)
    critical = max(first + second, default=0) + max(last, default=0)
    assert found >= max(critical, total / parallel)
    # Graham's bound for list scheduling with precedences.
    assert found <= total / parallel + (1 - 1 / parallel) * critical + 1e-9
    assert makespan(jobs, 1) == total
    assert makespan(jobs, max(1, len(jobs))) == critical


costs = st.just(0.0) | st.floats(1e-20, 1e-8)


@cache
def networks(study: str) -> list[NetworkConfiguration]:
    """A study's networks; reading a study takes longer than a fit, and many examples read the same one."""
    return [c for task in shipped(study).tasks if isinstance(c := task.configuration, NetworkConfiguration)]


@given(st.lists(costs, min_size=4, max_size=4))
def test_a_fit_recovers_planted_costs(planted: list[float]) -> None:
    assume(max(planted) > 1e-12)
    configurations = networks("paper")
    varied = [c.model_copy(update={"minibatch": 1 + i % 20}) for i, c in enumerate(configurations)]
    vector = np.array(planted) * [1, 1e2, 1, 1e4]
    measured = [Measurement(c, float(work(c) @ vector), float(work(c) @ vector) / 3) for c in varied]
    assume(min(m.training_s for m in measured) > 0)
    rates = fit(measured)
    for measurement in measured:
        assert work(measurement.configuration) @ rates.training == pytest.approx(measurement.training_s, rel=1e-6)
        assert work(measurement.configuration) @ rates.evaluation == pytest.approx(measurement.evaluation_s, rel=1e-6)
    assert rates.spread == pytest.approx(0, abs=1e-5)
    assert (rates.training >= 0).all()


def test_a_fit_of_noisy_measurements_is_never_negative_and_knows_its_spread() -> None:
    generator = np.random.default_rng(0)
    configurations = networks("paper")
    truth = [float(work(c) @ [1e-10, 2e-8, 5e-11, 3e-4]) for c in configurations]
    noisy = [t * float(np.exp(generator.normal(0, 0.2))) for t in truth]
    rates = fit([Measurement(c, t, t) for c, t in zip(configurations, noisy, strict=True)])
    assert (rates.training >= 0).all()
    assert rates.spread == pytest.approx(0.2, rel=0.25)
    fitted = np.array([work(c) @ rates.training for c in configurations])
    assert np.abs(np.log(fitted / truth)).max() < 0.2


def test_two_measurements_do_not_invent_what_other_kernels_cost() -> None:
    every = [FST.model_copy(update={"w1": w1, "w2": w2}) for w1 in range(3, 9) for w2 in (2, 3)]
    truth = {c: 1e-12 * relative_cost(c) for c in every}
    cheapest, dearest = min(every, key=relative_cost), max(every, key=relative_cost)
    measured = [Measurement(cheapest, 0.97 * truth[cheapest], 1e-6), Measurement(dearest, 1.03 * truth[dearest], 1e-6)]
    rates = fit(measured, every)
    assert [work(c) @ rates.training / truth[c] for c in every] == pytest.approx([1.0] * len(every), abs=0.15)


def test_an_epoch_is_every_training_and_every_validation_frame() -> None:
    frame = FST.multiply_adds(1).blstm
    expected = frame * (1e-9 * PAPERS_DATA.train_frames + 1e-10 * PAPERS_DATA.validation_frames)
    assert EXACT.step_s(FST, PAPERS_DATA) == pytest.approx(expected)


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**32), st.lists(st.integers(1, 200), max_size=6))
def test_epochs_stay_within_limit_and_patience(limit: int, patience: int, seed: int, observed: list[int]) -> None:
    configuration = FST.model_copy(update={"epochs": limit, "patience": patience})
    finished = [Spent(configuration, epochs, 1.0) for epochs in observed]
    drawn = draw_epochs([configuration] * 20, 1000, np.random.default_rng(seed), None, finished)
    assert drawn.min() >= min(limit, patience + 1)
    assert drawn.max() <= limit
    if patience + 1 >= limit:
        assert set(drawn) == {limit}


def test_epochs_that_were_seen_are_drawn_again() -> None:
    finished = [Spent(FST, epochs, 1.0) for epochs in (7, 9, 9, 12)]
    drawn = draw_epochs([FST] * 200, 1000, np.random.default_rng(0), None, finished)
    assert set(drawn) <= {7, 9, 12}
    assert set(draw_epochs([FST, FIXED], 1000, np.random.default_rng(0), 5)) == {5, 2}


def test_trials_of_the_same_model_and_features_tell_first() -> None:
    ldnn = NetworkConfiguration(model="LDNN")
    finished = [Spent(FST, 40, 1.0)] * 5 + [Spent(ldnn, 12, 1.0)] * 2
    few = draw_epochs([FST, ldnn] * 100, 1000, np.random.default_rng(0), None, finished)
    assert set(few[::2]) == {40}
    assert set(few[1::2]) == {12, 40}
    enough = draw_epochs([FST, ldnn] * 100, 1000, np.random.default_rng(0), None, [*finished, Spent(ldnn, 12, 1.0)])
    assert set(enough[1::2]) == {12}


def test_the_best_epoch_by_ua_grows_with_patience() -> None:
    by_ua = [FST.model_copy(update={"keep": "ua", "patience": patience, "epochs": 1000}) for patience in (3, 12)]
    short, long = (draw_epochs([c] * 2000, 1000, np.random.default_rng(0)) for c in by_ua)
    assert np.median(long - 12) == pytest.approx(4 * np.median(short - 3), rel=0.15)


def test_a_forecast_of_known_costs_is_the_schedule_itself() -> None:
    plan = make_plan(Agenda(study(S, T, ST, training={"epochs": 2}), IDENTITY, {}), PAPERS_DATA)
    exact = dataclasses.replace(EXACT, measured=10**9)
    found = make_forecast(plan, exact, 3, np.random.default_rng(0))
    jobs = [
        Job(2 * exact.step_s(task.configuration, PAPERS_DATA) + TRIAL_S, task.spaces, task.after) for task in plan.tasks
    ]
    assert found.wall.middle == pytest.approx(makespan(jobs, 3, START_S + WORKER_S), rel=0.1)
    assert found.device.middle == pytest.approx(sum(job.seconds for job in jobs), rel=0.1)
    assert found.wall.low < found.wall.middle < found.wall.high
    assert found.wall.high / found.wall.low == pytest.approx(np.exp(2 * 1.2816 * 0.1), rel=0.1)
    again = make_forecast(plan, exact, 3, np.random.default_rng(0))
    assert again.facts() == found.facts()


@pytest.mark.parametrize("slower", [1.0, 3.0])
def test_finished_trials_replace_the_calibration(slower: float) -> None:
    """This machine was measured, and the trials were trained on another one or beside other work."""
    plan = make_plan(Agenda(study(S, training={"epochs": 100}), IDENTITY, {}), PAPERS_DATA)
    configurations = [task.configuration for task in plan.tasks]
    finished = [Spent(c, 10, 10 * slower * EXACT.step_s(c, PAPERS_DATA)) for c in (configurations * 5)[:5]]
    before = make_forecast(plan, EXACT, 1, np.random.default_rng(0), None, finished[:2]).wall
    after = make_forecast(plan, EXACT, 1, np.random.default_rng(0), None, finished).wall
    expected_s = slower * 10 * sum(EXACT.step_s(c, PAPERS_DATA) for c in configurations)
    assert after.middle == pytest.approx(expected_s, rel=0.05)
    assert after.high / after.low < 1.4 < before.high / before.low


def test_of_a_pace_that_was_not_measured_little_is_known() -> None:
    ratios = np.exp(np.random.default_rng(0).normal(np.log(2), 0.3, 200)).tolist()
    found = pace_of(ratios)
    assert found.times == pytest.approx(2, rel=0.1)
    assert found.spread == pytest.approx(0.3, rel=0.15)
    assert found.uncertainty == pytest.approx(0.3 / np.sqrt(200), rel=0.15)
    assert pace_of([]).uncertainty > pace_of([2.0, 2.1]).uncertainty
    assert pace_of([2.0]).spread == pace_of([]).spread


def test_svms_are_measured_and_scaled() -> None:
    svm = {"name": "svm", "model": "SVM", "features": "IS09", "kernel": "linear", "C": [1.0, 10.0]}
    plan = make_plan(Agenda(study(svm), IDENTITY, {}), PAPERS_DATA)
    forecasts = [
        make_forecast(plan, dataclasses.replace(EXACT, fits=pace), 1, np.random.default_rng(0)).device.middle
        for pace in (pace_of([1.0] * 4), pace_of([10.0] * 4))
    ]
    trials_s = TRIAL_S * len(plan.tasks)
    assert (forecasts[1] - trials_s) / (forecasts[0] - trials_s) == pytest.approx(10, rel=1e-6)


def test_more_slots_never_forecast_more_time() -> None:
    plan = shipped("paper")
    walls = [make_forecast(plan, EXACT, n, np.random.default_rng(0), epochs=5).wall.middle for n in (1, 2, 8, 92)]
    assert walls == sorted(walls, reverse=True)


def test_a_study_that_is_done_takes_no_time() -> None:
    made = study(T)
    keys = Agenda(made, IDENTITY, {}).trials
    plan = make_plan(Agenda(made, IDENTITY, dict.fromkeys(keys, Outcome("complete", 50.0))), PAPERS_DATA, keys)
    assert plan.tasks == ()
    assert make_forecast(plan, EXACT, 2, np.random.default_rng(0)).wall == (0, 0, 0)


def spent(configuration: NetworkConfiguration, epochs: int, pace: float) -> Spent:
    return Spent(configuration, epochs, epochs * relative_cost(configuration) * pace)


def test_time_left_of_trials_whose_costs_are_proportional() -> None:
    dear = NetworkConfiguration(model="S-CLDNN", h1=4, h2=3)
    waiting = [Task(dear, (), key="a"), Task(FST, (), key="b")]
    left = seconds_left([spent(FST, 6, 1e-6)], {}, waiting)
    assert left == pytest.approx(6e-6 * (relative_cost(dear) + relative_cost(FST)))
    begun = seconds_left([spent(FST, 6, 1e-6)], {"a": spent(dear, 4, 1e-6)}, waiting, 2)
    assert begun == pytest.approx(max(2e-6 * relative_cost(dear), 6e-6 * relative_cost(FST)))


def test_time_left_is_unknown_until_something_tells() -> None:
    waiting = [Task(FST, (), key="a"), Task(FST, (), key="b")]
    assert seconds_left([], {}, waiting) is None
    assert seconds_left([], {"a": spent(FST, 3, 1.0)}, waiting) is None
    assert seconds_left([spent(FST, 3, 1.0)], {}, []) == 0
    fixed = [Task(FIXED, (), key="a"), Task(FIXED, (), key="b")]
    expected = 3 * relative_cost(FIXED)  # a has 1 of 2 epochs left, b has 2
    assert seconds_left([], {"a": spent(FIXED, 1, 1.0)}, fixed) == pytest.approx(expected)


def test_time_left_shrinks_trial_by_trial_to_nothing() -> None:
    agenda = Agenda(study(S, T, ST, training={"epochs": 3}), IDENTITY, {})
    done: list[Spent] = []
    left: list[float] = []
    while trial := agenda.take():
        agenda.finish(trial.key, Outcome("complete", float(len(done))))
        assert isinstance(trial.configuration, NetworkConfiguration)
        done.append(spent(trial.configuration, 3, 1e-6))
        left.append(seconds_left(done, {}, tasks(agenda)) or 0.0)
    assert agenda.complete
    assert left == sorted(left, reverse=True)
    assert left[-1] == 0


def test_calibration_measures_the_ends_of_each_model() -> None:
    chosen = spread(networks("paper"))
    assert len(chosen) == 10
    assert {c.model for c in chosen} == {"LDNN", "S-CLDNN", "T-CLDNN", "ST-CLDNN", "FST-CLDNN"}
    every = [relative_cost(task.configuration) for task in shipped("paper").tasks]
    assert relative_cost(chosen[0]) == min(every)
    assert relative_cost(chosen[-1]) == max(every)


@pytest.mark.parametrize("normalisation", get_args(Normalisation))
def test_every_normalisation_is_measured(normalisation: Normalisation) -> None:
    lengths = np.array([20, 30, 40])
    tiny = FST.model_copy(update={"normalisation": normalisation, "maps": 2, "cells": 4, "dense": (4,)})
    training_s, evaluation_s = system_class(tiny).measure(tiny, 6, lengths, "cpu")
    assert training_s > 0
    assert evaluation_s > 0


@pytest.mark.slow("two processes import torch and train")
def test_calibration_trains_for_real_in_two_processes() -> None:
    tiny = [
        NetworkConfiguration(model="FST-CLDNN", w1=3, w2=2, maps=2, cells=4, dense=(4,), minibatch=2),
        NetworkConfiguration(model="LDNN", features="mfccs", cells=4, dense=(4,), minibatch=1),
    ]
    measured = calibrate(tiny, PAPERS_DATA, np.array([20, 30, 40]), 2, "cpu")
    assert {m.configuration for m in measured} == set(tiny)
    assert all(m.training_s > 0 and m.evaluation_s > 0 for m in measured)
    assert fit(measured).measured == 2


@pytest.mark.parametrize("slots", [1, 2, 3, 100])
def test_a_schedule_has_the_order_in_which_trials_are_handed_out(slots: int) -> None:
    agenda = Agenda(study(T, S, {"name": "fst", "model": "FST-CLDNN", "w1": "3:8", "w2": 2}), IDENTITY, {})
    expected = [task.key for task in in_order(tasks(agenda), slots)]
    agenda.order_for(slots)
    taken = []
    while trial := agenda.take():
        taken.append(trial)
    assert [trial.key for trial in taken] == expected
    costs = [relative_cost(trial.configuration) for trial in taken]
    by_cost = costs == sorted(costs, reverse=True)
    assert by_cost is (len(taken) <= FEW_PER_SLOT * slots)
