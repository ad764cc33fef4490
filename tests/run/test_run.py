"""What binds a study to a store, and what is refused before anything is written."""

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from sersearch.cli import app
from sersearch.errors import InputError
from sersearch.run.run import start_run
from sersearch.speech.corpora import read_corpus
from sersearch.store.build import build_store
from sersearch.store.reader import Store
from sersearch.study.study import Study, parse_study
from tests.conftest import RATE


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
