"""The model card: what a model is, how it was tested, on whose data, and what it can't do. Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from sersearch.deployment.classifier import ModelRecord, TestFigures
from sersearch.errors import printable
from sersearch.speech.corpora.known import known_corpora
from sersearch.speech.corpora.known_noises import known_noises
from sersearch.store.vectors.opensmile import SETS


def model_card(record: ModelRecord) -> str:
    """The card of an exported model."""
    parts = (_head(record), _test(record), _data(record), _use(record), _limits(record), _origin(record))
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _head(record: ModelRecord) -> Iterator[str]:
    yield f"# {printable(record.configuration.description)}"
    yield ""
    yield (
        f"Speech emotion recognition: one of {', '.join(map(printable, record.emotions))} per utterance. Trained by "
        f"sersearch {record.sersearch} in the run {printable(record.provenance.run)}."
    )


def _test(record: ModelRecord) -> Iterator[str]:
    provenance = record.provenance
    chance = 100 / len(record.emotions)
    yield "## How it was tested"
    yield ""
    if provenance.test:
        yield (
            "UA is the mean of the emotions' recalls, in per cent. It was chosen on validation speakers, and tested on "
            f"speakers that took part neither in training nor in the choice. Guessing has {chance:.1f}."
        )
        yield ""
        yield "| condition | test UA (%) | 95 % interval | test speakers | copies | validation UA (%) |"
        yield "| --- | --- | --- | --- | --- | --- |"
        for condition, test in provenance.test.items():
            validation = provenance.validation_ua[condition]
            cells = (f"{test.ua:.2f}", _interval(test), str(test.speakers), str(test.copies), f"{validation:.2f}")
            yield f"| {condition} | {' | '.join(cells)} |"
        yield ""
        for condition, test in provenance.test.items():
            by_emotion = ", ".join(f"{printable(emotion)} {recall:.1f}" for emotion, recall in test.recalls.items())
            yield f"Recalls under the {condition} condition, in per cent: {by_emotion}."
        yield ""
        yield (
            "The interval is over speakers: this model on other speakers of the same kind of speech. The clean "
            "condition is the recordings as they are; the noisy one has their noisy copies too."
        )
    else:
        yield (
            "It was not tested: it is no winner of its run, or the run is not complete. Its validation figures are "
            "those by which it could have been chosen, so they are too high."
        )
        yield ""
        for condition, ua in provenance.validation_ua.items():
            yield f"- validation UA, {condition} condition: {ua:.2f} % (guessing {chance:.1f} %)"
    if provenance.stopped == "pruned":
        yield ""
        yield "Its training was stopped early, because other trials were ahead."


def _interval(test: TestFigures) -> str:
    return "–" if test.low is None or test.high is None else f"[{test.low:.1f}, {test.high:.1f}]"


def _data(record: ModelRecord) -> Iterator[str]:
    provenance = record.provenance
    fold = f", fold {printable(provenance.fold)}" if provenance.fold else ""
    chose = f"{provenance.validation} more chose it" if provenance.validation else "each was left out once to choose it"
    yield "## Data and licences"
    yield ""
    yield f"Trained on {provenance.train} speakers of {printable(provenance.corpus)}{fold}; {chose}."
    yield ""
    for name in provenance.corpus.split("+"):
        corpus = known_corpora().get(name)
        if corpus:
            yield f"- {name}: {corpus.title}. {corpus.reference}. Licence: {corpus.licence}. {corpus.source}"
        else:
            yield f"- {printable(name)}: its licence is not known to sersearch; state it before you pass the model on."
    library = known_noises().get(provenance.noise)
    if library:
        yield f"- noise: {library.title}. {library.reference}. Licence: {library.licence}. {library.source}"
    elif provenance.noise != "none":
        yield "- noise: a folder of one's own; its licence is not known to sersearch."
    if record.configuration.vectors in SETS:
        yield (
            "- openSMILE (audEERING): its licence covers research and private use but no products, and that includes "
            "models trained on its functionals."
        )
    yield ""
    yield "Whether a licence of the data binds a model trained on them is not settled; what is listed is what was used."


def _use(record: ModelRecord) -> Iterator[str]:
    yield "## Use"
    yield ""
    yield "    sersearch predict DIR audio/ --format csv"
    yield ""
    front_end = record.front_end
    yield (
        f"Sound of any rate and number of channels is averaged to one channel and resampled to "
        f"{front_end.sampling_rate} Hz, as for training."
    )
    if record.score == "probability":
        yield "The scores are the network's softmax, not calibrated: 0.9 does not mean right in 90 % of cases."
    else:
        yield "The scores are decision values: they order the emotions, and are no probabilities."
    if record.configuration.knows_speakers:
        yield (
            "The features are normalised by the speaker's own utterances. `predict` takes the files of each folder as "
            "one speaker's; in the test, a speaker's statistics came from all of the speaker's clean utterances, of "
            "all emotions. With one file, or one emotion, per folder the model is not the one that was tested."
        )
    if record.configuration.trims:
        yield (
            "Silence at both ends is left out, by the file's own loudness (noisy copies were trimmed as their clean "
            "recording was)."
        )


def _limits(record: ModelRecord) -> Iterator[str]:
    yield "## Limits"
    yield ""
    yield (
        "It gives an emotion to any sound, also to music or noise: it does not detect speech. It has been shown how "
        f"people of {printable(record.provenance.corpus)} express emotions, often as actors, and knows no other "
        "language, culture, age or recording than theirs. One emotion is predicted per utterance of some seconds. It "
        "says what speech sounds like, not what a person feels; do not decide about people by it."
    )


def _origin(record: ModelRecord) -> Iterator[str]:
    provenance = record.provenance
    yield "## Where it comes from"
    yield ""
    yield f"- study {printable(provenance.study)}, trial {provenance.key}, seed {provenance.seed}"
    yield f"- store {provenance.fingerprint}; weights sha256 {record.weights_sha256}"
    yield f"- {', '.join(f'{name} {value}' for name, value in provenance.environment.items() if value)}"
    for condition, test in provenance.test.items():
        yield f"- test speakers opened on {test.opened} ({condition})"
    yield ""
    yield f"`sersearch rerun RUN {provenance.key}` trains it again. The configuration, in full, is in `config.json`."
