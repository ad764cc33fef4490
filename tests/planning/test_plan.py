"""Plans of the shipped studies against the paper's counts, and of small ones against what is in a ledger."""

import io
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from sersearch.cli import app
from sersearch.errors import InputError
from sersearch.models.cldnn import CLDNN
from sersearch.planning.calibration import bind
from sersearch.planning.forecast import Measurement, fit
from sersearch.planning.plan import PAPERS_DATA, Plan, make_plan, plan_facts
from sersearch.run.ledger import Epoch, Result
from sersearch.run.run import Run, start_run
from sersearch.search.shares import Memory
from sersearch.store.reader import Store
from sersearch.study.agenda import Agenda
from sersearch.study.configuration import NetworkConfiguration
from sersearch.study.study import Study, load_study, parse_study
from sersearch.terminal.plan import print_plan
from sersearch.terminal.screen import Screen
from sersearch.training.dataset import open_dataset

SHIPPED = Path(__file__).parents[2] / "search_spaces"

S = {"name": "s", "model": "S-CLDNN", "h1": "4:5", "h2": 3}
T = {"name": "t", "model": "T-CLDNN", "w1": "6:8", "w2": 3}
ST = {
    "name": "st",
    "model": "ST-CLDNN",
    "h1": "4:9",
    "h2": 3,
    "w1": "3:8",
    "w2": 3,
    "top": {"k": 3, "h": "s", "w": "t"},
}


def study(*spaces: dict[str, Any], **tables: Any) -> Study:
    return parse_study({"name": "x", "spaces": list(spaces), **tables}, "x.toml")


def planned(*spaces: dict[str, Any], **tables: Any) -> Plan:
    return make_plan(Agenda(study(*spaces, **tables), PAPERS_DATA.identity, {}), PAPERS_DATA)


def shipped(name: str) -> Plan:
    return make_plan(Agenda(load_study(SHIPPED / f"{name}.toml"), PAPERS_DATA.identity, {}), PAPERS_DATA)


def counts(plan: Plan) -> dict[str, int]:
    return {found.space.name: found.trials for found in plan.spaces}


def test_table_4_has_71_trials() -> None:
    plan = shipped("table-4")
    twelve = ["s-cldnn-log-mels", "t-cldnn-log-mels", "fst-cldnn-log-mels", "t-cldnn-mfccs", "fst-cldnn-mfccs"]
    one = ["ldnn-log-mels", "ldnn-mfccs"]
    assert counts(plan) == dict.fromkeys(twelve, 12) | dict.fromkeys(one, 1) | {"st-cldnn-log-mels": 9}
    assert plan.totals() == {"trials": 71, "waiting": 9, "done": 0, "left": 71, "infeasible": 0, "shrunk": 8}


def test_the_sweep_has_27_and_shares_6_with_table_4() -> None:
    assert shipped("h1-sweep").totals()["trials"] == 27
    plan = shipped("paper")
    assert plan.totals()["trials"] == 71 + 27 - 6
    shared = [found for found in plan.trials if len(found.spaces) == 2]
    assert {found.spaces for found in shared} == {("s-cldnn-log-mels", "s-cldnn-h1-sweep")}
    assert sorted(found.trial.configuration.h1 or 0 for found in shared) == [4, 5, 6, 7, 8, 9]
    assert max(Counter(found.trial.key for found in plan.trials).values()) == 1


def test_st_says_how_many_when_and_why() -> None:
    (st,) = [found for found in shipped("paper").spaces if found.space.top]
    assert (st.trials, st.candidates, st.settled) == (9, 144, False)
    assert st.statement == ("9 trials (k = 3: 3 x 3 of 144), once s-cldnn-log-mels and t-cldnn-log-mels are done")


def test_st_combines_no_more_kernels_than_there_are() -> None:
    assert counts(planned(S, T, ST))["st"] == 2 * 3
    assert counts(planned(S, T, ST, seeds=2))["st"] == 2 * 3 * 2


def test_what_shrinks_is_marked() -> None:
    marked = [found.trial.configuration for found in shipped("paper").trials if found.shapes.shrunk]
    expected = {
        (model, features, w1, 3)
        for model in ("T-CLDNN", "FST-CLDNN")
        for features in ("log-mels", "mfccs")
        for w1 in (7, 8)
    }
    assert {(c.model, c.features, c.w1, c.w2) for c in marked} == expected
    assert len(marked) == len(expected)


def test_an_infeasible_configuration_is_named_and_not_counted() -> None:
    plan = planned({**S, "h1": "30:31"}, seeds=2)
    assert plan.totals() == {"trials": 2, "waiting": 0, "done": 0, "left": 2, "infeasible": 1, "shrunk": 0}
    (fails,) = [entry for entry in plan_facts(plan)["trials"] if not entry["feasible"]]
    assert fails["config"]["h1"] == 31
    assert fails["reason"] == "layer 2: h2 = 3 leaves 2 rows, pooling needs 3"
    assert fails["parameters"] is None
    assert [layer["layer"] for layer in fails["shapes"]] == ["input", "convolution 1", "pooling 1"]
    assert all(task.configuration.h1 == 30 for task in plan.tasks)


def test_the_json_has_what_was_promised() -> None:
    facts = json.loads(CliRunner().invoke(app, ["plan", str(SHIPPED / "paper.toml"), "--format", "json"]).output)
    assert (facts["study"], facts["bound"], facts["totals"]["trials"]) == ("paper", False, 92)
    promised = {"key", "space", "model", "features", "config", "parameters", "shapes", "feasible", "shrunk", "done"}
    for entry in facts["trials"]:
        assert promised <= set(entry)
        assert set(entry["config"]) == {"h1", "w1", "h2", "w2"}
        assert sum(entry["modules"].values()) == entry["parameters"]
    first = facts["trials"][0]
    assert {layer["layer"]: layer["shape"] for layer in first["shapes"]} == {
        "input": [1, 40, 16],
        "convolution 1": [32, 37, 16],
        "pooling 1": [32, 18, 16],
        "convolution 2": [32, 16, 16],
        "pooling 2": [32, 7, 16],
        "vector": [3584],
        "blstm": [256],
        "dense 1": [128],
        "dense 2": [32],
        "dense 3": [32],
        "output": [6],
    }


def test_parameters_are_those_of_the_built_modules() -> None:
    for found in shipped("paper").trials[::7]:
        configuration = found.trial.configuration
        assert isinstance(configuration, NetworkConfiguration)
        built = CLDNN(configuration, PAPERS_DATA.emotions)
        assert found.parameters == configuration.parameters(PAPERS_DATA.emotions)
        assert found.parameters
        assert found.parameters.total == sum(p.numel() for p in built.parameters())


def test_nothing_heavy_is_imported_for_a_plan_without_a_store() -> None:
    script = (
        "import sys\nfrom sersearch.cli import app\n"
        f"app(['plan', {str(SHIPPED / 'paper.toml')!r}], standalone_mode=False)\n"
        "assert not {'torch', 'ray', 'optuna', 'pyarrow'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "92 trials (9 of them at most, once others are done)" in done.stdout


def test_what_a_sampler_draws_is_listed_as_such() -> None:
    free = {"name": "free", "model": ["LDNN", "T-CLDNN"], "w1": "3:8", "w2": 3, "learning_rate": {"log": [1e-4, 1e-2]}}
    plan = planned(free, {**S, "h1": "4:6"}, seeds=2, search={"sampler": "tpe", "trials": 7})
    assert [found.statement for found in plan.spaces] == [
        "14 trials that the sampler tpe draws, 0 of them so far, 2 seeds",
        "6 trials that the sampler tpe draws, 0 of them so far, 2 seeds",
    ]
    assert plan.totals()["waiting"] == len(plan.tasks) == 14 + 6
    assert plan.trials == ()
    assert plan.at_a_time is None, "it follows the cluster of the first launch"
    assert all(1e-4 <= task.configuration.learning_rate <= 1e-2 for task in plan.tasks)


@pytest.mark.parametrize(
    ("tables", "at_a_time", "said"),
    [
        ({}, 5, "at a time: at most 5 trials"),
        ({"search": {"sampler": "tpe", "trials": 4, "window": 1}}, 2, "at a time: at most 2 trials"),
        ({"search": {"sampler": "tpe", "trials": 4}}, None, "as many trials as fit on the cluster of the first launch"),
    ],
    ids=["grid", "window", "open"],
)
def test_a_plan_says_how_many_trials_at_a_time_it_can_use(
    tables: dict[str, Any], at_a_time: int | None, said: str
) -> None:
    plan = planned(S, T, **tables)
    assert plan_facts(plan)["at_a_time"] == at_a_time
    assert len(plan_facts(plan)["spaces"]) == 2
    if at_a_time:
        assert sum(space["at_a_time"] for space in plan_facts(plan)["spaces"]) == at_a_time
    assert said in printed(plan)


def printed(plan: Plan) -> str:
    console = Screen(file=io.StringIO(), width=200)
    print_plan(plan, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def finish(run: Run, keys: list[str]) -> None:
    """Commit results of some trials, the first the best."""
    trials = run.agenda().trials
    for rank, key in enumerate(keys):
        trial = trials[key].sealed
        counts = {"s4": [[1000 - rank, rank, 0], [0, 1, 0], [0, 0, 1]]}
        epoch = Epoch(epoch=1, train_loss=1.0, validation_loss=1.0, ua_noisy=90.0, ua_clean=90.0, seconds=2.0)
        result = Result(
            trial=trial,
            epochs=(epoch,),
            best=0,
            stopped="epochs",
            seconds=2.0,
            parameters=1,
            confusion={"noisy": counts, "clean": counts},
            environment={},
        )
        run.ledger.begin(trial).commit(result, b"")


def test_what_a_ledger_holds_is_marked_and_settles_st(tmp_path: Path, tiny_store: Store) -> None:
    made = study(S, T, {**ST, "top": {"k": 1, "h": "s", "w": "t"}}, seeds=2)
    run = start_run(tmp_path / "run", made, tiny_store.path)
    keys = list(run.agenda().trials)
    finish(run, keys[:3])
    plan = plan_of(made, tmp_path / "run")
    assert [found.trial.key for found in plan.trials if found.done] == keys[:3]
    assert plan.totals() == {"trials": 12, "waiting": 2, "done": 3, "left": 9, "infeasible": 0, "shrunk": 4}
    assert [task.key for task in plan.tasks] == [*keys[3:], "", ""]
    finish(run, keys[3:])
    plan = plan_of(made, tmp_path / "run")
    assert plan.spaces[2].settled
    assert plan.spaces[2].statement == "2 trials (k = 1: 1 x 1 of 36, 2 seeds)"
    assert [(t.configuration.h1, t.configuration.w1) for t in plan.tasks] == [(4, 6), (4, 6)]
    assert plan.totals() | {"shrunk": 0} == {
        "trials": 12,
        "waiting": 0,
        "done": 10,
        "left": 2,
        "infeasible": 0,
        "shrunk": 0,
    }


def plan_of(made: Study, run: Path) -> Plan:
    bound = bind(made, run=run)
    assert bound
    return make_plan(bound.agenda, bound.size, bound.results)


def test_keys_and_counts_are_the_stores(tmp_path: Path, tiny_store: Store) -> None:
    path = tmp_path / "study.toml"
    path.write_text('spaces = [{ name = "fst", model = "FST-CLDNN", w1 = "3:4", w2 = 2 }]\nseeds = 2')
    words = ["plan", str(path), "--store", str(tiny_store.path), "--format", "json"]
    facts = json.loads(CliRunner().invoke(app, words, catch_exceptions=False).output)
    run = start_run(tmp_path / "run", load_study(path), tiny_store.path)
    assert facts["bound"]
    assert [entry["key"] for entry in facts["trials"]] == list(run.agenda().trials)
    assert [entry["seed"] for entry in facts["trials"]] == [0, 1, 0, 1]
    data = open_dataset(run.store, run.partition)
    assert facts["data"]["train_frames"] == data.train.length.sum()
    assert facts["data"]["validation_utterances"] == len(data.validation)
    assert facts["data"]["emotions"] == 3


def test_another_partition_than_the_runs_is_refused(tmp_path: Path, tiny_store: Store) -> None:
    start_run(tmp_path / "run", study(T), tiny_store.path)
    with pytest.raises(InputError, match="its partition is"):
        bind(study(T, partition={"seed": 7}), run=tmp_path / "run")


@pytest.mark.parametrize(("columns", "wide"), [(80, False), (100, True)])
def test_the_table_fits_its_columns(columns: int, wide: bool) -> None:
    many = planned({**S, "h1": "29:31"}, T, {"name": "lr", "model": "LDNN", "learning_rate": [0.001, 0.01]}, seeds=3)
    console = Screen(width=columns, record=True, file=io.StringIO(), force_terminal=True)
    print_plan(many, console, wide)
    text = console.export_text()
    lines = [line.rstrip() for line in text.splitlines()]
    assert sum(line.startswith(("29x1", "30x1", "31x1", "1x6", "1x7", "1x8", "LDNN")) for line in lines) == 3 + 3 + 2
    assert "infeasible: layer 2: h2 = 3 leaves 2 rows, pooling needs 3" in " ".join(text.split())
    assert "learning_rate 0.01" in text
    assert "…" not in text


def test_tasks_come_in_the_agendas_order_and_st_waits() -> None:
    plan = planned(ST, T, S)
    assert [task.spaces for task in plan.tasks] == [("t",)] * 3 + [("s",)] * 2 + [("st",)] * 6
    assert {task.after for task in plan.tasks if task.spaces == ("st",)} == {("s", "t")}
    assert len(plan.tasks) == plan.totals()["left"] == plan.totals()["trials"]


@pytest.mark.parametrize(
    ("model", "kernels", "measured_mb"),
    [
        ("FST-CLDNN", {"w1": 3, "w2": 2}, 111),
        ("S-CLDNN", {"h1": 4, "h2": 3}, 209),
        ("S-CLDNN", {"h1": 30, "h2": 3}, 110),
        ("T-CLDNN", {"w1": 3, "w2": 2}, 359),
        ("ST-CLDNN", {"h1": 4, "h2": 3, "w1": 3, "w2": 2}, 155),
        ("LDNN", {}, 109),
    ],
)
def test_memory_of_a_minibatch_against_measured_peaks(model: str, kernels: dict[str, int], measured_mb: float) -> None:
    # One training step of 10 utterances of 400 frames on a CPU, weights and optimiser already there.
    configuration = NetworkConfiguration.model_validate({"model": model, **kernels})
    whole, weights = (configuration.minibatch_bytes(6, frames) for frames in (400, 0))
    assert (whole - weights) / 1e6 == pytest.approx(measured_mb, rel=0.35)


@pytest.mark.slow("it measures training steps twice, in processes of their own")
def test_a_calibrated_plan_forecasts_an_interval(tmp_path: Path, tiny_store: Store) -> None:
    path = tmp_path / "study.toml"
    path.write_text(
        'spaces = [{ name = "fst", model = "FST-CLDNN", w1 = "3:4", w2 = 2 }]\n'
        "[training]\nmaps = 2\ncells = 4\ndense = [4]\nepochs = 2"
    )
    words = ["plan", str(path), "--store", str(tiny_store.path), "--calibrate", "--parallel", "1"]
    text = CliRunner().invoke(app, words, catch_exceptions=False).output
    assert "wall time with 1 at a time" in text
    assert "every trial takes its limit of epochs" in text
    facts = json.loads(CliRunner().invoke(app, [*words, "--format", "json"], catch_exceptions=False).output)["forecast"]
    for name in ("wall_s", "device_s"):
        assert 0 < facts[name]["low"] < facts[name]["middle"] < facts[name]["high"]
    assert facts["parallel"] == 1


def test_a_plan_counts_what_trimming_leaves(tiny_store: Store, tmp_path: Path) -> None:
    sizes = {}
    for trim in ("false", "true"):
        file = tmp_path / f"{trim}.toml"
        file.write_text(f'spaces = [{{ name = "l", model = "LDNN" }}]\n[features]\ntrim = {trim}\n')
        bound = bind(load_study(file), tiny_store.path)
        assert bound
        sizes[trim] = bound.size
        (task,) = make_plan(bound.agenda, bound.size).tasks
        measured = [Measurement(task.configuration, 1e-3, 1e-3)]
        seconds = fit(measured).step_s(task.configuration, bound.size)
        frames = bound.size.train_frames + bound.size.validation_frames
        assert seconds == pytest.approx(1e-3 * frames * bound.size.speech_share)
    assert sizes["false"].speech_share == 1
    assert 0 < sizes["true"].speech_share <= 1


MIXED = {
    "systems": [str(Path(__file__).parents[1] / "search" / "sharing_system.py")],
    "partition": {"train": 50, "validation": 25, "test": 25},
    "resources": {"gpus": 0.25},
}


def test_a_plan_says_how_much_of_a_gpu_a_trial_takes(tiny_store: Store, tmp_path: Path) -> None:
    """As a search estimates it, whose way to these numbers is another one; nothing where it takes none."""
    given = study(T, {"name": "c", "model": "on-cpu"}, **MIXED)
    bound = bind(given, tiny_store.path)
    assert bound
    plan = make_plan(bound.agenda, bound.size)
    memory = Memory(start_run(tmp_path / "run", given, tiny_store.path))
    on_gpus = {found.trial.key: found.gpu_bytes for found in plan.trials if found.trial.configuration.model != "on-cpu"}
    assert on_gpus == {found.trial.key: memory.estimate(found.trial) for found in plan.trials if found.gpu_bytes}
    assert plan.left_by_kind() == {True: 3, False: 1}
    assert [trial["gpu_bytes"] for trial in plan_facts(plan)["trials"]] == [*on_gpus.values(), None]
    said = printed(plan)
    assert "GPUs: 3 trials left that take 0.25 or more each; 1 trial left that takes none" in said
    assert "memory of a GPU: 0.7 GB per trial, estimated" in said
    assert "GPU" not in printed(planned(T))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_calibration_without_the_gpus_that_trials_take_is_a_line_and_2(tmp_path: Path) -> None:
    path = tmp_path / "gpus.toml"
    path.write_text('spaces = [{ name = "l", model = "LDNN" }]\n[resources]\ngpus = 0.5')
    refused = CliRunner().invoke(app, ["plan", str(path), "--calibrate"])
    assert isinstance(refused.exception, InputError)
    assert "gpus = 0.5, but torch finds no GPU on this machine" in str(refused.exception)
