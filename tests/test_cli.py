"""Wrong input, as a person gives it: one clear line, exit code 2, nothing lost."""

import csv
import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.core import TyperOption
from typer.main import get_command
from typer.testing import CliRunner

from sersearch.cli import app
from sersearch.errors import InputError
from sersearch.run.run import start_run
from sersearch.store.reader import Store, open_store
from sersearch.study.study import load_study
from tests.generated import commit, draw_result, generate_run

RATE = 16_000


def refused(*words: object) -> str:
    """What a command that ends with exit code 2 says: one line."""
    done = CliRunner().invoke(app, list(map(str, words)))
    assert isinstance(done.exception, InputError), done.output
    message = str(done.exception)
    assert "\n" not in message
    return message


def works(*words: object) -> str:
    done = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def copy(tiny_corpus: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_corpus, tmp_path / "corpus"))


@pytest.fixture
def first(copy: Path) -> Path:
    with (copy / "manifest.csv").open(newline="") as file:
        return copy / next(csv.DictReader(file))["path"]


def build(corpus: Path, out: Path, *more: object) -> tuple[object, ...]:
    return ("features", "--corpus", f"tiny={corpus}", "--out", out, "--workers", 1, *more)


COMMANDS = [
    "corpus",
    "features",
    "functionals",
    "store",
    "new",
    "plan",
    "search",
    "resume",
    "status",
    "report",
    "rerun",
    "compare",
]
COMMANDS += ["probe", "export-optuna", "demo"]
COMMANDS += ["export", "predict", "export-mlflow", "cluster check"]
COMMANDS += ["cluster slurm", "cluster ssh", "cluster kuberay", "cluster aws", "cluster gcp", "cluster docker"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command: str) -> None:
    assert "Example: sersearch " + command in works(*command.split(), "--help").replace("\n", " ").replace("  ", " ")


def test_a_folder_without_audio(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing to hear")
    assert str(tmp_path) in refused("corpus", "ravdess", tmp_path)
    assert "manifest.csv" in refused("corpus", "mine", tmp_path)
    assert "is not a folder" in refused("corpus", "ravdess", tmp_path / "none")


def test_an_unknown_emotion(copy: Path) -> None:
    message = refused("corpus", "tiny", copy, "--emotions", "anger,joy")
    assert "joy" in message
    assert "happiness" in message


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (np.zeros(0), "empty"),
        (np.full(1, 0.1), "shorter than one window of 25 ms"),
        (np.zeros(RATE), "silence"),
        (np.full(RATE, np.nan), "NaN"),
    ],
    ids=["empty", "one sample", "silence", "NaN"],
)
def test_a_file_that_cannot_be_used(copy: Path, first: Path, tmp_path: Path, samples: np.ndarray, reason: str) -> None:
    with first.open("wb") as file:
        soundfile.write(file, samples, RATE, format="WAV", subtype="FLOAT")
    message = refused(*build(copy, tmp_path / "store"))
    assert str(first) in message
    assert reason.lower() in message.lower()
    assert "--skip-refused" in message
    assert not (tmp_path / "store").exists()
    assert "store: 35 copies of 6 speakers" in works(*build(copy, tmp_path / "store", "--skip-refused"))
    stored = open_store(tmp_path / "store").table("s0")["utterance"].to_pylist()
    assert stored == ["s0-anger-1", "s0-happiness-0", "s0-happiness-1", "s0-sadness-0", "s0-sadness-1"]
    listed = CliRunner().invoke(app, ["corpus", "tiny", str(copy)])
    assert listed.exit_code == 2
    assert f"refused: {first}" in listed.output


def test_a_truncated_flac(copy: Path, first: Path, tmp_path: Path) -> None:
    first.write_bytes(first.read_bytes()[: first.stat().st_size // 2])
    assert str(first) in refused(*build(copy, tmp_path / "store"))


def test_a_stereo_48_khz_file_is_taken(copy: Path, first: Path) -> None:
    noise = np.random.default_rng(0).standard_normal((48_000, 2)) * 0.1
    with first.open("wb") as file:
        soundfile.write(file, noise, 48_000, format="WAV")
    assert "36" in works("corpus", "tiny", copy)


def test_words_of_features_that_make_no_sense(copy: Path, tmp_path: Path) -> None:
    assert "NAME=DIR" in refused("features", "--corpus", "ravdess", "--out", tmp_path / "s")
    noisy = build(copy, tmp_path / "s", "--noise", copy)
    assert "LOW:HIGH" in refused(*noisy, "--snr-range", "loud")
    assert "the lower one first" in refused(*noisy, "--snr-range", "15:-10")
    assert "draw 36 or fewer" in refused(*noisy, "--noises", 1000)


def test_a_store_of_another_recipe(copy: Path, tmp_path: Path) -> None:
    works(*build(copy, tmp_path / "store"))
    before = (tmp_path / "store" / "store.json").read_bytes()
    message = refused(*build(copy, tmp_path / "store", "--bands", 23))
    assert "bands (40 there, 23 now)" in message
    assert (tmp_path / "store" / "store.json").read_bytes() == before


def study(folder: Path, text: str) -> Path:
    path = folder / "study.toml"
    path.write_text(text)
    return path


FST = '{ name = "fst", model = "FST-CLDNN", w1 = "3:4", w2 = 2 }'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"spaces = [{FST}]\nseedz = 2", "unknown key seedz; did you mean seeds?"),
        ('spaces = [{ name = "t", model = "T-CLDNN", w1 = "8:3", w2 = 2 }]', 'the range "8:3" is empty'),
        ('spaces = [{ name = "s", model = "S-CLDNN", h1 = 41, h2 = 3 }]', "h1 = 41 is larger than the spectrum"),
        ('spaces = [{ name = "s", model = "S-CLDNN", h1 = 31, h2 = 3 }]', "leaves 2 rows, pooling needs 3"),
    ],
)
def test_a_wrong_study(tmp_path: Path, tiny_store: Store, text: str, message: str) -> None:
    run = tmp_path / "run"
    assert message in refused("search", study(tmp_path, text), "--store", tiny_store.path, "--run", run)
    assert not run.exists()


def test_settings_are_changed_by_plan_and_search(tmp_path: Path, tiny_store: Store) -> None:
    path = study(tmp_path, f"spaces = [{FST}]")
    facts = json.loads(works("plan", path, "--set", "training.epochs=5", "--set", "seeds=2", "--format", "json"))
    assert {(trial["epochs"]["most"], trial["seed"]) for trial in facts["trials"]} == {(5, 0), (5, 1)}
    run = tmp_path / "run"
    message = refused("search", path, "--store", tiny_store.path, "--run", run, "--set", "training.epoch=5")
    assert message == "--set training.epoch=5: unknown key training.epoch; did you mean training.epochs?"
    assert not run.exists()


def test_a_search_without_a_store_or_with_too_few_speakers(tmp_path: Path, copy: Path) -> None:
    path = study(tmp_path, f"spaces = [{FST}]")
    assert "no store is named" in refused("search", path, "--run", tmp_path / "run")
    assert "no store.json" in refused("search", path, "--run", tmp_path / "run", "--store", tmp_path)
    rows = (copy / "manifest.csv").read_text().splitlines()
    few = [rows[0], *(row for row in rows[1:] if row.startswith(("s0", "s1")))]
    (copy / "manifest.csv").write_text("\n".join(few))
    works(*build(copy, tmp_path / "store"))
    message = refused("search", path, "--run", tmp_path / "run", "--store", tmp_path / "store")
    assert "2 speakers" in message


def test_what_is_no_run(tmp_path: Path) -> None:
    for command in ("resume", "status", "report"):
        assert "is not a run" in refused(command, tmp_path)
    (tmp_path / "run.json").write_text("{torn")
    assert "is damaged" in refused("status", tmp_path)


def test_a_folder_that_is_no_run_is_left_alone(tmp_path: Path, tiny_store: Store) -> None:
    other = tmp_path / "photos"
    other.mkdir()
    (other / "cat.jpg").write_bytes(b"cat")
    path = study(tmp_path, f"spaces = [{FST}]")
    assert "holds other things" in refused("search", path, "--store", tiny_store.path, "--run", other)
    assert [p.name for p in other.iterdir()] == ["cat.jpg"]


def test_status_of_a_run_that_has_not_begun(tmp_path: Path, tiny_store: Store) -> None:
    start_run(tmp_path / "run", load_study(study(tmp_path, f"spaces = [{FST}]")), tiny_store.path)
    facts = json.loads(works("status", tmp_path / "run", "--format", "json"))
    assert (facts["done"], facts["left"], facts["best"]["noisy"]) == (0, 2, None)
    assert "0 of 2 trials done" in works("status", tmp_path / "run")
    assert "Unfinished: 0 of 2" in works("report", tmp_path / "run")


@pytest.mark.parametrize("products", ["float32 (no units for bf16)", "bf16 (avx512_bf16)"])
def test_trials_that_were_not_computed_in_bf16_are_counted(products: str, tmp_path: Path, tiny_store: Store) -> None:
    path = study(tmp_path, f'spaces = [{FST}]\n[training]\nprecision = "bf16"')
    run = start_run(tmp_path / "run", load_study(path), tiny_store.path)
    for trial in run.agenda().left:
        result = draw_result(run, trial, np.random.default_rng(0))
        commit(run, result.model_copy(update={"environment": {"products": products}}))
    said = CliRunner().invoke(app, ["resume", str(run.path)])
    assert said.exit_code == 0
    is_said = "2 of 2 trials were computed in float32 instead of bf16" in said.stderr
    assert is_said is products.startswith("float32")


def test_verification_names_all_that_is_damaged_or_missing(tmp_path: Path, tiny_store: Store) -> None:
    study = tmp_path / "study.toml"
    study.write_text('name = "v"\nspaces = [{ name = "fst", model = "FST-CLDNN", w1 = "3:6", w2 = 2 }]\n')
    run = generate_run(tmp_path / "run", study, tiny_store)
    cut, gone, *_ = sorted(run.ledger.results())
    result = run.path / "trials" / cut / "result.json"
    result.write_bytes(result.read_bytes()[:-40])
    (run.path / "trials" / gone / "result.json").unlink()

    assert str(result) in refused("status", run.path)
    said = CliRunner().invoke(app, ["status", str(run.path), "--verify", "--format", "json"])
    assert said.exit_code == 1
    found = {finding["key"]: finding["kind"] for finding in json.loads(said.stdout)["findings"]}
    assert (found[cut], found[gone]) == ("damaged", "unfinished")


def test_an_address_where_no_cluster_answers(tmp_path: Path, tiny_store: Store) -> None:
    study = tmp_path / "study.toml"
    study.write_text('name = "a"\nspaces = [{ name = "fst", model = "FST-CLDNN", w1 = 3, w2 = 2 }]\n')
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    address = f"127.0.0.1:{port}"
    said = refused("search", study, "--store", tiny_store.path, "--run", tmp_path / "run", "--address", address)
    assert f"--address {address} was given, but no Ray cluster answers there" in said
    assert "ray start --head" in said


def manifest_of(folder: Path, *lines: str) -> Path:
    """Write a manifest, and one recording of its own per line."""
    generator = np.random.default_rng(3)
    for line in lines:
        soundfile.write(folder / line.split(",")[0], 0.1 * generator.standard_normal(RATE), RATE)
    (folder / "manifest.csv").write_text("\n".join(["path,speaker,emotion,age", *lines]), encoding="utf-8")
    return folder


def test_sentences_are_counted_where_they_are_known(tmp_path: Path) -> None:
    folder = manifest_of(tmp_path, "1.wav,ann,anger,7", "2.wav,ann,sad,7", "3.wav,bob,sad,8", "4.wav,bob,anger,8")
    assert "sentences" not in works("corpus", "mine", folder)
    manifest = folder / "manifest.csv"
    texts = ("text", "Dogs sit", "Kids talk", "dogs sit", "")
    lines = zip(manifest.read_text().splitlines(), texts, strict=True)
    manifest.write_text("\n".join(f"{line},{text}" for line, text in lines))
    assert "2 sentences (column text), 1 of them spoken by several speakers" in works("corpus", "mine", folder)


def test_labels_are_mapped_and_said(tmp_path: Path) -> None:
    folder = manifest_of(tmp_path, "1.wav,ann,ANG,7", "2.wav,ann,exc,7", "3.wav,bob,sad,8", "4.wav,bob,neutral,8")
    by_hand = ("--map", "exc=happy", "--map", "neutral=calm")
    said = "ANG -> anger (1), exc -> happiness (1), neutral -> calm (1), sad -> sadness (1)"
    shown = works("corpus", "mine", folder, *by_hand)
    assert said in shown
    assert "utterances per speaker: ann (2), bob (2)" in shown
    assert "further columns of the manifest were kept: age" in shown
    assert "not read" not in shown
    (folder / "notes.csv").write_text("no manifest")
    assert "not read: 1 x .csv" in works("corpus", "mine", folder, *by_hand)
    chosen = ("--emotions", "anger,happiness,sadness")
    store = ("features", "--corpus", f"mine={folder}", "--out", tmp_path / "store", "--workers", 1, *by_hand, *chosen)
    shown = works(*store)
    assert said in shown
    assert "left out (with the number of utterances): calm (1)" in shown
    assert open_store(tmp_path / "store").emotions == ("anger", "happiness", "sadness")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--map", "exc"), "write LABEL=EMOTION"),
        (("--map", "exc="), "write LABEL=EMOTION"),
        (("--map", "happy=happiness"), "tiny has no emotion 'happy'; did you mean 'happiness'? choose from anger"),
        (("--map", "angr=fear"), "did you mean 'anger'?"),
        (("--map", "anger=saddness"), "did you mean 'sadness'?"),
        (("--map", "anger=fear", "--map", "anger=calm"), "anger is mapped to fear as well; choose one"),
        (("--map", "anger=fear", "--map", "Anger=calm"), "is mapped to 'fear' and to 'calm'; choose one"),
        (("--map", "anger=fear", "--emotions", "anger"), "tiny has no emotion 'anger'"),
    ],
)
def test_a_map_that_makes_no_sense(tiny_corpus: Path, given: tuple[str, ...], said: str) -> None:
    assert said in refused("corpus", "tiny", tiny_corpus, *given)


def test_speakers_that_look_alike(tmp_path: Path) -> None:
    folder = manifest_of(tmp_path, "1.wav,Ann,sad,7", "2.wav,ann,sad,7")
    out = tmp_path / "store"
    features = ("features", "--corpus", f"mine={folder}", "--out", out, "--workers", 1)
    for command in (("corpus", "mine", folder), features):
        message = refused(*command)
        assert "'Ann' and 'ann'" in message
        assert "--distinct-speakers" in message
        works(*command, "--distinct-speakers")
    assert [info.speaker for info in open_store(out).speakers] == ["Ann", "ann"]


def test_a_speaker_whose_name_is_too_long_for_a_file(tmp_path: Path) -> None:
    folder = manifest_of(tmp_path, f"1.wav,{'é' * 40},sad,7")
    assert "is too long for a file name; shorten it" in refused(
        "features", "--corpus", f"mine={folder}", "--out", tmp_path / "store", "--workers", 1
    )
    assert not (tmp_path / "store").exists()


def test_the_name_of_a_corpus_with_a_reader_is_suggested(tmp_path: Path) -> None:
    for name in ("Ravdess", "RAVDESS", "ravdes"):
        assert "did you mean 'ravdess'?" in refused("corpus", name, tmp_path)


def _single_valued_options() -> list[tuple[str, str]]:
    program = get_command(app)
    return [
        (command, max(parameter.opts, key=len))
        for command, parsed in program.commands.items()
        for parameter in parsed.params
        if isinstance(parameter, TyperOption) and not (parameter.multiple or parameter.is_flag)
    ]


@pytest.mark.parametrize(("command", "option"), _single_valued_options())
def test_an_option_that_is_given_twice_is_refused(command: str, option: str) -> None:
    assert f"{option} was given 2 times, but takes one value" in refused(command, option, "1", f"{option}=1", "x")


def test_a_new_study_is_written_once_and_to_a_toml_file(tmp_path: Path) -> None:
    works("new", tmp_path / "mine.toml")
    written = (tmp_path / "mine.toml").read_text()
    assert "exists already" in refused("new", tmp_path / "mine.toml")
    assert (tmp_path / "mine.toml").read_text() == written
    assert "end it with .toml" in refused("new", tmp_path / "mine")
    assert "no such folder" in refused("new", tmp_path / "none" / "mine.toml")


def test_every_kind_of_option_is_among_those(tmp_path: Path) -> None:
    options = _single_valued_options()
    assert {("features", "--noise"), ("corpus", "--emotions"), ("plan", "--store"), ("report", "--format")} <= {
        *options
    }
    assert ("features", "--map") not in options
    assert ("features", "--corpus") not in options
    done = subprocess.run(
        [sys.executable, "-m", "sersearch", "demo", "--out", tmp_path / "a", "--out", tmp_path / "b"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "sersearch: --out was given 2 times, but takes one value; keep one of them\n"
    assert not list(tmp_path.iterdir())


def test_the_catalogue_is_listed() -> None:
    shown = works("corpus")
    for name in ("ravdess", "enterface-paper-count", "emodb", "mesd"):
        assert name in shown
    assert "10 speakers; 535 utterances; CC0 1.0" in shown
    assert "can't be used: its files do not say who speaks" in " ".join(shown.split())


def test_a_corpus_without_its_folder() -> None:
    assert "corpus emodb: its folder is missing" in refused("corpus", "emodb")


def test_a_table_about_speakers(tmp_path: Path) -> None:
    folder = manifest_of(tmp_path, "1.wav,Ann,sad,7", "2.wav,Bob,sad,7", "3.wav,cy,sad,8")
    table = tmp_path / "speakers.csv"
    table.write_text("speaker;Gender;region\nAnn;f;north\nBob;m;south\n")
    shown = works("corpus", "mine", folder, "--speakers", table)
    assert f"{table} does not name 1 of the speakers: cy" in shown
    out = tmp_path / "store"
    works("features", "--corpus", f"mine={folder}", "--speakers", table, "--out", out, "--workers", 1)
    rows = {info.speaker: open_store(out).table(info.speaker).to_pylist()[0] for info in open_store(out).speakers}
    assert {speaker: row["gender"] for speaker, row in rows.items()} == {"Ann": "female", "Bob": "male", "cy": None}
    assert json.loads(rows["Ann"]["extra"]) == {"age": "7", "region": "north"}
    table.write_text("speaker,gender\nAnne,f\n")
    assert "mine has no speaker 'Anne'" in refused("corpus", "mine", folder, "--speakers", table)
    table.write_text("name,gender\nAnn,f\n")
    assert "has no column 'speaker'" in refused("corpus", "mine", folder, "--speakers", table)


@pytest.mark.parametrize("address", ["s3://bucket/x", "gs://b/x", "abfss://c@account/x", "file:///x"])
def test_addresses_of_object_stores_are_refused_by_name(
    address: str, tiny_store: Store, tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.toml").write_text('spaces = [{ name = "l", model = "LDNN" }]')
    for words in (
        ("search", "study.toml", "--store", tiny_store.path, "--run", address),
        ("search", "study.toml", "--store", address, "--run", "run"),
        ("resume", address),
        ("status", address),
        ("store", address),
        ("features", "--corpus", f"tiny={tiny_corpus}", "--out", address),
    ):
        message = refused(*words)
        assert f"{address.partition(':')[0]}:// is not supported; give a folder" in message
    assert [path.name for path in tmp_path.iterdir()] == ["study.toml"]
