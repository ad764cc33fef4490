"""What binds a study to a store, and what is refused before anything is written."""

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from sersearch.cli import app
from sersearch.errors import InputError
from sersearch.run.run import open_run, start_run
from sersearch.speech.corpora import read_corpus
from sersearch.store.build import build_store
from sersearch.store.reader import Store
from sersearch.study.study import Study, load_study, parse_study
from tests.conftest import RATE
from tests.generated import generate_run


def build_uneven(folder: Path, happy: int) -> Store:
    """A store of ten speakers, of whom only the first `happy` show happiness."""
    generator = np.random.default_rng(0)
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "speaker", "emotion"])
        for speaker in range(10):
            for emotion in ("anger", "happiness", "sadness"):
                if emotion != "happiness" or speaker < happy:
                    name = f"{speaker}-{emotion}.wav"
                    soundfile.write(folder / name, 0.1 * generator.standard_normal(RATE // 4), RATE)
                    writer.writerow([name, f"s{speaker}", emotion])
    return build_store(folder / "store", read_corpus("uneven", folder), noises=0, snrs=0, workers=1)


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """One happy speaker for each of the three parts, if the seed is lucky."""
    return build_uneven(tmp_path_factory.mktemp("uneven"), happy=3)


def study_with(**tables: object) -> Study:
    return parse_study({"name": "x", "spaces": [{"name": "l", "model": "LDNN"}], **tables}, "x.toml")


def test_a_part_without_an_emotion_is_refused_with_a_seed_that_works(uneven: Store, tmp_path: Path) -> None:
    refused = r"has no utterance of happiness, so UA .*: set seed = (\d+) in \[partition\]"
    with pytest.raises(InputError, match=refused) as caught:
        start_run(tmp_path / "run", study_with(partition={"seed": 1}), uneven.path)
    assert not (tmp_path / "run").exists()
    seed = int(str(caught.value).split("seed = ")[1].split()[0])
    run = start_run(tmp_path / "run", study_with(partition={"seed": seed}), uneven.path)
    fold = run.partition
    for part in (fold.train, fold.validation, fold.test):
        assert any(speaker in ("s0", "s1", "s2") for speaker in part)


def test_a_plan_refuses_it_too(uneven: Store, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text('spaces = [{ name = "l", model = "LDNN" }]\n[partition]\nseed = 1\n')
    planned = CliRunner().invoke(app, ["plan", str(tmp_path / "x.toml"), "--store", str(uneven.path)])
    assert "has no utterance of happiness" in str(planned.exception)


def test_where_no_seed_helps_the_advice_is_another(tmp_path: Path) -> None:
    # Two happy speakers cannot be in three parts, nor in the two that are left when one of them is the test speaker.
    store = build_uneven(tmp_path, happy=2)
    for protocol in ("partition", "loso"):
        spaces = [{"name": "l", "model": "LDNN", "protocol": protocol}]
        with pytest.raises(InputError, match=r"no seed from 0 to 999 .* change the shares") as caught:
            start_run(tmp_path / "run", study_with(spaces=spaces), store.path)
        assert "\n" not in str(caught.value)


FST = '[[spaces]]\nname = "fst"\nmodel = "FST-CLDNN"\nw1 = [3, 4]\nw2 = 2\n'


def written(folder: Path, text: str) -> Path:
    path = folder / f"{abs(hash(text))}.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("content", [None, b"", b'{"study": {"na', b'{"study": {}, "store": "x"}'])
def test_a_lost_or_torn_record_is_restored_by_the_study_and_the_ledger(
    content: bytes | None, tiny_store: Store, tmp_path: Path
) -> None:
    study = written(tmp_path, f'name = "x"\n{FST}')
    run = generate_run(tmp_path / "run", study, tiny_store, trials=1)
    before, results = (run.path / "run.json").read_bytes(), run.ledger.results()
    if content is None:
        (run.path / "run.json").unlink()
    else:
        (run.path / "run.json").write_bytes(content)
    with pytest.raises(InputError, match="with the study that it began with writes it again and keeps the trials"):
        open_run(run.path)
    told: list[str] = []
    assert start_run(run.path, load_study(study), tiny_store.path, told.append).ledger.results() == results
    assert (run.path / "run.json").read_bytes() == before
    assert told == [f"{run.path / 'run.json'} was lost or damaged and is written again; the trials are kept"]
    start_run(run.path, load_study(study), tiny_store.path, told.append)
    assert len(told) == 1


def test_the_trials_of_another_study_are_no_ground_to_restore_it(tiny_store: Store, tmp_path: Path) -> None:
    run = generate_run(tmp_path / "run", written(tmp_path, f'name = "x"\n{FST}'), tiny_store, trials=1)
    (run.path / "run.json").unlink()
    for other in (FST + "[training]\nepochs = 3\n", FST + "[partition]\nseed = 1\n"):
        study = load_study(written(tmp_path, f'name = "y"\n{other}'))
        with pytest.raises(InputError, match=r"none of the 1 trials there is one of study y on .*: give the study"):
            start_run(run.path, study, tiny_store.path)
    assert not (run.path / "run.json").exists()


def test_a_folder_with_nothing_but_a_torn_first_write_is_taken_over(tiny_store: Store, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / ".run.json.0123456789abcdef.part").write_bytes(b'{"stu')
    study = load_study(written(tmp_path, f'name = "x"\n{FST}'))
    told: list[str] = []
    assert len(start_run(run, study, tiny_store.path, told.append).agenda().left) == 2
    assert open_run(run).study == study
    assert told == []
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InputError, match="is not a folder"):
        start_run(tmp_path / "file", study, tiny_store.path)
