"""Studies on corpora of the sizes of EmoDB, RAVDESS and eNTERFACE'05: the plan's warning, the run, and the report."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from sersearch.cli import app
from sersearch.report.folder import read_report
from sersearch.report.sheets import leaderboards
from sersearch.speech.corpora import Gender, Utterance
from sersearch.store.manifest import Manifest, Recipe
from sersearch.store.reader import Store, open_store
from sersearch.store.rows import Row, SpeakerWriter
from tests.generated import generate_run

EMOTIONS = ("anger", "boredom", "disgust", "fear", "happiness", "neutral", "sadness")

STUDY = """
spaces = [
    {{ name = "s", model = "S-CLDNN", h1 = 5, h2 = 3 }},
    {{ name = "t", model = "T-CLDNN", w1 = 8, w2 = 3 }},
    {{ name = "fst", model = "FST-CLDNN", w1 = [5, 8], w2 = 2 }},
]
{partition}
[hypothesis]
order = ["S", "T", "FST"]
"""


class ShortWriter(SpeakerWriter):
    """Writes a few frames in place of the log-Mels of sound."""

    def _rows(self, utterance: Utterance) -> Iterator[Row]:
        for copy in range(self.recipe.copies):
            yield {
                "utterance": utterance.id,
                "corpus": utterance.corpus,
                "speaker": utterance.speaker,
                "gender": utterance.gender,
                "emotion": utterance.emotion,
                "condition": "noisy" if copy else "clean",
                "noise": f"{int(utterance.id) % 40}.wav" if copy else None,
                "snr_db": float(int(utterance.id) % 25 - 10) if copy else None,
                "noise_offset_s": 0.0 if copy else None,
                "duration_s": 0.1,
                "frames": 8,
                "log_mel": np.zeros((8, self.recipe.bands), np.float32),
            }


def make_store(path: Path, utterances: int, speakers: int, emotions: int) -> Store:
    recipe = Recipe(corpus="generated", emotions=EMOTIONS[:emotions], content="", noise_content="", noises=1, snrs=1)
    genders: tuple[Gender, ...] = ("female", "male")
    by_speaker: dict[int, list[Utterance]] = {}
    for number in range(utterances):
        speaker, emotion = number % speakers, EMOTIONS[number // speakers % emotions]
        labels = (f"{speaker:02}", genders[speaker % 2], emotion, "generated")
        by_speaker.setdefault(speaker, []).append(Utterance(f"{number}", path, *labels))
    path.mkdir()
    planned = {own[0].speaker: len(own) * recipe.copies for own in by_speaker.values()}
    write = ShortWriter(path, recipe, None)
    infos = []
    for own in by_speaker.values():
        part, info = write(tuple(own))
        part.replace(path / info.file)
        infos.append(info)
    manifest = Manifest(fingerprint=recipe.fingerprint, recipe=recipe, versions={}, planned=planned)
    manifest.model_copy(update={"speakers": tuple(infos)}).write(path)
    return open_store(path)


@pytest.mark.parametrize(
    ("utterances", "speakers", "emotions", "warning", "folds"),
    [
        (535, 10, 7, "2 test speakers: no difference can be shown; folds = 5 in [partition] tests all 10", 5),
        (1440, 24, 6, "5 test speakers: no difference can be shown; folds = 12 in [partition] tests all 24", 12),
        (1257, 42, 6, "one partition: differences are of these trained systems, not of their kinds; folds = 14", 14),
    ],
    ids=["EmoDB", "RAVDESS", "eNTERFACE"],
)
def test_a_study_of_each_size(
    tmp_path: Path, utterances: int, speakers: int, emotions: int, warning: str, folds: int
) -> None:
    store, study = make_store(tmp_path / "store", utterances, speakers, emotions), tmp_path / "study.toml"
    study.write_text(STUDY.format(partition=""))
    planned = CliRunner().invoke(app, ["plan", str(study), "--store", str(store.path)])
    assert planned.exit_code == 0, planned.output
    assert warning in planned.output

    study.write_text(STUDY.format(partition=f"[partition]\nfolds = {folds}\nvalidation = 2"))
    planned = CliRunner().invoke(app, ["plan", str(study), "--store", str(store.path)])
    assert f"{folds} folds test {speakers} of {speakers} speakers" in planned.output
    assert "no difference can be shown" not in planned.output

    facts = read_report(generate_run(tmp_path / "run", study, store))
    assert {row.winner.condition for row in facts.rows} == {"noisy", "clean"}
    for row in facts.rows:
        assert row.test
        # Every speaker is tested once, by every row.
        assert len(row.test.speakers) == speakers
        assert row.test.recipe
    notes = " ".join(note for sheet in leaderboards(facts) for note in sheet.notes)
    assert f"interval over {folds} folds" in notes
    for ranking in facts.rankings.values():
        for pair in ranking.pairs:
            places = ranking.order.index(pair.first), ranking.order.index(pair.second)
            shared = set(ranking.letters[places[0]]) & set(ranking.letters[places[1]])
            assert bool(shared) != pair.apart, "letters say what the tests say"
