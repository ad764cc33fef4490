"""The live view on a real terminal, and the lines of a log."""

import io
import re
import time
from pathlib import Path

import pytest

from sersearch.run.run import Run, start_run
from sersearch.speech.corpora import read_corpus
from sersearch.store.build import build_store
from sersearch.store.reader import Store
from sersearch.study.study import load_study
from sersearch.terminal.corpus import BuildProgress
from sersearch.terminal.live import SearchProgress, parts_of, trial_name
from sersearch.terminal.screen import Screen
from sersearch.terminal.status import status_facts
from tests.generated import generate_run
from tests.terminal.screen import Terminal

LIVE_VIEW = Path(__file__).with_name("live_view.py")
STUDY = """\
name = "live"
seeds = 2
spaces = [{ name = "st", model = "ST-CLDNN", h1 = "4:9", w1 = "3:8", h2 = 3, w2 = 2 }]
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_store: Store) -> Run:
    folder = tmp_path_factory.mktemp("live")
    (folder / "study.toml").write_text(STUDY)
    return generate_run(folder / "run", folder / "study.toml", tiny_store, trials=3)


@pytest.fixture(scope="module")
def with_folds(tmp_path_factory: pytest.TempPathFactory, tiny_store: Store) -> Run:
    folder = tmp_path_factory.mktemp("folds")
    (folder / "study.toml").write_text('spaces = [{ name = "l", model = "LDNN", protocol = "loso" }]')
    return start_run(folder / "run", load_study(folder / "study.toml"), tiny_store.path)


@pytest.mark.slow("it starts a program on a terminal")
@pytest.mark.parametrize("columns", [80, 110, 200])
def test_the_live_view_shows_its_main_line_and_every_trial_whole(run: Run, columns: int) -> None:
    with Terminal([LIVE_VIEW, run.path, 2], columns) as terminal:
        screen = "\n".join(terminal.wait_for("starting"))
        assert re.search(r"^3 of 72 done, 2 running, about \d+:\d\d:\d\d left$", screen, re.MULTILINE)
        assert re.search(r"^[━╸╺]+$", screen, re.MULTILINE)
        assert re.search(r"^best validation UA: [\d.]+ % noisy, [\d.]+ % clean$", screen, re.MULTILINE)
        first, second = (trial for trial in run.agenda().left[:2])
        assert re.search(rf"^{first.key[:8]} +{re.escape(trial_name(first))} +7 +1.234 +43.21 +54.32$", screen, re.M)
        assert re.search(rf"^{second.key[:8]} +{re.escape(trial_name(second))} +starting$", screen, re.M)
        assert "…" not in screen
        terminal.type("\n")
        assert terminal.finish() == 0
        left = "\n".join(terminal.screen)
        assert "train: 4 speakers: " in left
        assert "running" not in left


@pytest.mark.slow("it starts a program on a terminal")
def test_more_trials_than_the_screen_has_lines_are_counted(run: Run) -> None:
    with Terminal([LIVE_VIEW, run.path, 60], 80, lines=20) as terminal:
        screen = terminal.wait_for("more")
        shown = sum("ST-CLDNN" in line for line in screen)
        assert shown >= 8
        assert f"and {60 - shown} more" in screen
        assert any(line.startswith("3 of 72 done, 60 running") for line in screen)


def test_the_parts_are_named_at_the_start(run: Run, with_folds: Run) -> None:
    partition = run.partition
    assert list(parts_of(run.study, run.identity)) == [
        f"train: 4 speakers: {', '.join(partition.train)}",
        f"validation: 1 speaker: {partition.validation[0]}",
        f"test: 1 speaker: {partition.test[0]}",
    ]
    assert list(parts_of(with_folds.study, with_folds.identity)) == [
        "loso: 6 folds of 4 train, 1 validation, 1 test speakers; tested in turn: s0, s1, s2, s3, s4, s5"
    ]


def test_a_trial_is_named_by_its_seed_and_the_speaker_it_leaves_out(run: Run, with_folds: Run) -> None:
    names = [trial_name(trial) for trial in run.agenda().trials.values()]
    assert len(set(names)) == len(names) == 72
    assert {name.partition(", ")[2] for name in names} == {"", "seed 1"}
    assert [trial_name(trial).rpartition(", ")[2] for trial in with_folds.agenda().left] == [
        f"without s{number}" for number in range(6)
    ]


def test_a_log_has_a_line_every_minute_and_one_per_trial(run: Run) -> None:
    log = io.StringIO()
    results = run.ledger.results()
    agenda = run.agenda(results)
    with SearchProgress(agenda, results.values(), console=Screen(file=log), every_s=0.01) as progress:
        trial = agenda.left[0]
        progress.started(trial)
        until = time.monotonic() + 60
        while "running" not in log.getvalue() and time.monotonic() < until:
            time.sleep(0.01)
    lines = log.getvalue().splitlines()
    assert lines[0].startswith("train: 4 speakers: ")
    assert "3 trials are done already" in lines
    counted = re.compile(r"3 of 72 done, 1 running, about [\d:]+ left; best validation UA: .* % noisy, .* % clean; ")
    assert any(counted.match(line) and line.endswith(trial_name(trial)) for line in lines)
    ended = len(lines)
    time.sleep(0.05)
    assert len(log.getvalue().splitlines()) == ended


def test_the_best_validation_ua_is_said_to_be_of_one_fold(tiny_store: Store, tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(
        'spaces = [{ name = "l", model = "LDNN" }]\npartition = { folds = 3, validation = 1 }'
    )
    run = generate_run(tmp_path / "run", tmp_path / "study.toml", tiny_store, trials=3)
    log, results = io.StringIO(), run.ledger.results()
    agenda = run.agenda(results)
    with SearchProgress(agenda, results.values(), console=Screen(file=log), every_s=0.01):
        until = time.monotonic() + 60
        while "best validation UA" not in log.getvalue() and time.monotonic() < until:
            time.sleep(0.01)
    best = max(results.values(), key=lambda result: result.ua("noisy"))
    assert f"best validation UA of one fold: {best.ua('noisy'):.2f} % noisy, " in log.getvalue()
    status = status_facts(run, agenda, results)
    assert status["best"]["noisy"]["model"] == f"LDNN (log-mels), {best.trial.fold.name}"


def test_every_file_of_a_corpus_and_of_the_noise_is_counted(
    tiny_corpus: Path, tiny_noise: Path, tmp_path: Path
) -> None:
    counted: list[tuple[int, int]] = []
    build_store(
        tmp_path / "store",
        read_corpus("tiny", tiny_corpus),
        tiny_noise,
        noises=1,
        snrs=1,
        workers=1,
        decoded=lambda done, total: counted.append((done, total)),
    )
    assert counted == [(done, 36) for done in range(1, 37)] + [(done, 3) for done in range(1, 4)]


def test_a_corpus_is_counted_in_a_log_while_it_is_decoded_and_built() -> None:
    log = io.StringIO()
    with BuildProgress(Screen(file=log), every_s=0.01) as progress:
        for done, say, words in ((3, progress.counting("decoding"), ()), (40, progress, ("anna",))):
            until = time.monotonic() + 60
            while f"{done} of 48" not in log.getvalue() and time.monotonic() < until:
                say(done, 48, *words)
                time.sleep(0.01)
    lines = log.getvalue().splitlines()
    assert any(line.startswith("decoding: 3 of 48") for line in lines)
    assert lines[-1].startswith("speaker anna: 40 of 48")


@pytest.mark.slow("it runs a search with the real Ray on a terminal")
def test_a_real_search_on_a_terminal_of_80_columns(tiny_store: Store, tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(
        "training = { epochs = 3 }\n"
        'spaces = [{ name = "l", model = "LDNN", features = ["mfccs", "log-mels"], cells = 8 }]\n'
    )
    words = ("search", tmp_path / "study.toml", "--store", tiny_store.path, "--run", tmp_path / "run")
    with Terminal(["-m", "sersearch", *words], 80) as terminal:
        screen = terminal.wait_for(" of 2 done, ")
        assert any(re.match(r"\d of 2 done, \d running", line) for line in screen)
        assert terminal.finish() == 0
        lines = terminal.scrolled
    text = " ".join(line.strip() for line in lines)
    assert "train: 4 speakers: " in text
    for number in (1, 2):
        assert len([line for line in lines if line.startswith(f"{number}/2 ")]) == 1
    assert "all 2 trials are done" in text
    assert "running" not in text
