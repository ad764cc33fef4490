"""From the folders of one or several corpora to one table of utterances, with the emotions that are kept."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sersearch.errors import InputError
from sersearch.speech.corpora.audformat import is_database, read_database
from sersearch.speech.corpora.corpus import Corpus, Gender, Refusal, Utterance
from sersearch.speech.corpora.known import known_corpora, read_known
from sersearch.speech.corpora.labels import check_emotions, map_labels, tidy
from sersearch.speech.corpora.manifest import read_manifest, why_missing
from sersearch.speech.corpora.tables import gender_of, read_table


def read_corpus(
    name: str,
    folder: Path,
    emotions: tuple[str, ...] | None = None,
    *,
    by_hand: Mapping[str, str] | None = None,
    distinct_speakers: bool = False,
    about_speakers: Path | None = None,
) -> Corpus:
    """Read the utterances of one corpus, with their speakers and emotions; see `read_corpora`."""
    return read_corpora(
        {name: folder},
        emotions,
        by_hand=by_hand,
        distinct_speakers=distinct_speakers,
        about_speakers=about_speakers,
    )


def read_corpora(
    folders: Mapping[str, Path],
    emotions: tuple[str, ...] | None = None,
    *,
    by_hand: Mapping[str, str] | None = None,
    distinct_speakers: bool = False,
    about_speakers: Path | None = None,
) -> Corpus:
    """Read the utterances of one or several corpora, with their speakers and emotions.

    In several corpora, the names of speakers and the ids of utterances begin with the name of their corpus, as in
    "ravdess/01": speaker 01 of one corpus is nobody in another.

    Args:
        folders: folder of each corpus, or path of its manifest, by the name of the corpus. The name is one of the
            catalogue (`known_corpora`) for a corpus as it is distributed; any other name for a corpus that is described
            by a manifest.csv with the columns path, speaker, emotion and optionally gender, utterance and others, or
            that is a database in audformat.
        emotions: emotions to keep; None for those that the catalogue names (the paper's six in RAVDESS), and for all in
            any other corpus. Of several corpora, None keeps the emotions that all of them have.
        by_hand: label or emotion -> emotion that it is to become; the usual synonyms (angry, neu) are mapped without.
        distinct_speakers: whether names of speakers that look alike (01 and 1) belong to several people. Without it,
            they are refused.
        about_speakers: table with a column speaker, and a column gender or further facts about each speaker.

    Raises:
        InputError: a folder holds no such corpus, a manifest is malformed, two speakers' names look alike, an emotion
            is in none of the corpora, or nothing is left.
    """
    corpora = [_read(name, folder, distinct_speakers) for name, folder in folders.items()]
    joined = _join(corpora)
    if about_speakers:
        joined = _with_facts(joined, about_speakers)
    emotion_of = map_labels({utterance.emotion for utterance in joined.utterances}, by_hand or {}, joined.name)
    utterances = [replace(utterance, emotion=emotion_of[utterance.emotion]) for utterance in joined.utterances]
    if emotions is None:
        emotions = _common_emotions(corpora, emotion_of)
    else:
        check_emotions(emotions, emotion_of.values(), joined.name)
    kept = [utterance for utterance in utterances if utterance.emotion in emotions]
    left_out = [utterance for utterance in utterances if utterance.emotion not in emotions]
    if not kept:
        listed = _counts(utterance.emotion for utterance in left_out)
        raise InputError(
            f"{joined.name}: no utterance is left, with these emotions left out: {listed}; name emotions that it has "
            "in --emotions"
        )
    notes = _note_on_labels(joined.utterances, emotion_of) + _note_on_left_out(left_out)
    notes += _note_on_not_shared(utterances, emotions)
    missing = {utterance: reason for utterance in kept if (reason := why_missing(utterance.path))}
    return replace(
        joined,
        utterances=tuple(utterance for utterance in kept if utterance not in missing),
        refused=joined.refused + tuple(Refusal(utterance.path, reason) for utterance, reason in missing.items()),
        notes=notes + joined.notes,
    )


def _read(name: str, folder: Path, distinct_speakers: bool) -> Corpus:
    if is_database(folder):
        return read_database(name, folder)
    if name in known_corpora() and not folder.is_file():
        return read_known(name, folder)
    return read_manifest(name, folder, distinct_speakers, known_corpora())


def _join(corpora: Sequence[Corpus]) -> Corpus:
    """Put several corpora together; a single one stays as it is."""
    if len(corpora) == 1:
        return corpora[0]
    utterances = []
    for corpus in corpora:
        for utterance in corpus.utterances:
            id, speaker = f"{corpus.name}/{utterance.id}", f"{corpus.name}/{utterance.speaker}"
            utterances.append(replace(utterance, id=id, speaker=speaker))
    return Corpus(
        name="+".join(corpus.name for corpus in corpora),
        utterances=tuple(sorted(utterances, key=lambda utterance: utterance.id)),
        refused=tuple(refusal for corpus in corpora for refusal in corpus.refused),
        notes=tuple(f"{corpus.name}: {note}" for corpus in corpora for note in corpus.notes),
        folders=tuple(folder for corpus in corpora for folder in corpus.folders),
        tables=tuple(file for corpus in corpora for file in corpus.tables),
    )


def _with_facts(corpus: Corpus, file: Path) -> Corpus:
    """Add what a table says of the speakers to their utterances: the gender, and further facts.

    Raises:
        InputError: the table is malformed, or names a speaker that the corpus lacks.
    """
    table = read_table(file, ("speaker", "gender"))
    if "speaker" not in table.columns:
        raise InputError(f"{file}: has no column 'speaker'; its header has {', '.join(table.columns)}")
    facts: dict[str, tuple[Gender | None, dict[str, str]]] = {}
    for where, row in table.records():
        speaker = tidy(row["speaker"])
        if speaker not in corpus.speakers:
            raise InputError(f"{where}: {corpus.name} has no speaker {speaker!r}; its first are {_first(corpus)}")
        if speaker in facts:
            raise InputError(f"{where}: speaker {speaker!r} is named twice; keep one line")
        extra = {column: value for column, value in row.items() if column not in ("speaker", "gender", "")}
        facts[speaker] = gender_of(row.get("gender", ""), where), extra
    utterances = []
    for utterance in corpus.utterances:
        gender, extra = facts.get(utterance.speaker, (None, {}))
        extra = {**utterance.extra, **extra}
        utterances.append(replace(utterance, gender=gender or utterance.gender, extra=extra))
    unnamed = sorted(set(corpus.speakers) - set(facts))
    note = f"{file} does not name {len(unnamed)} of the speakers: {', '.join(unnamed)}"
    return replace(corpus, utterances=tuple(utterances), notes=corpus.notes + ((note,) if unnamed else ()))


def _first(corpus: Corpus) -> str:
    return ", ".join(corpus.speakers[:10])


def _common_emotions(corpora: Sequence[Corpus], emotion_of: Mapping[str, str]) -> tuple[str, ...]:
    """Find the emotions that all corpora have, out of those that each keeps by default.

    Raises:
        InputError: the corpora have no emotion in common.
    """
    kept_by_corpus: list[set[str]] = []
    for corpus in corpora:
        labels = {utterance.emotion for utterance in corpus.utterances}
        known = known_corpora().get(corpus.name)
        default = set(known.kept if known and known.kept else labels)
        kept_by_corpus.append({emotion_of[label] for label in labels if label in default})
    common = set.intersection(*kept_by_corpus)
    if not common and len(corpora) > 1:
        listed = "; ".join(
            f"{corpus.name} has {', '.join(sorted(kept))}" for corpus, kept in zip(corpora, kept_by_corpus, strict=True)
        )
        raise InputError(f"the corpora have no emotion in common ({listed}); map labels with --map LABEL=EMOTION")
    return tuple(sorted(common))


def _note_on_labels(utterances: Iterable[Utterance], emotion_of: Mapping[str, str]) -> tuple[str, ...]:
    """Say which labels became emotions of another name, and how many utterances have them."""
    counts = Counter(utterance.emotion for utterance in utterances)
    pairs = [
        f"{label} -> {emotion_of[label]} ({count})"
        for label, count in sorted(counts.items())
        if label != emotion_of[label]
    ]
    if not pairs:
        return ()
    return (f"labels were mapped to emotions (with the number of utterances): {', '.join(pairs)}",)


def _note_on_left_out(left_out: Sequence[Utterance]) -> tuple[str, ...]:
    """Say which emotions were left out, and how to include them."""
    if not left_out:
        return ()
    listed = _counts(utterance.emotion for utterance in left_out)
    return (f"left out (with the number of utterances): {listed}; name them in --emotions to include them",)


def _note_on_not_shared(utterances: Sequence[Utterance], kept: Sequence[str]) -> tuple[str, ...]:
    """Say which emotions some of several corpora lack, and whether they are kept nevertheless."""
    counts = {corpus: Counter[str]() for corpus in sorted({utterance.corpus for utterance in utterances})}
    for utterance in utterances:
        counts[utterance.corpus][utterance.emotion] += 1
    parts = []
    for emotion in sorted({utterance.emotion for utterance in utterances}):
        lacking = [corpus for corpus, of_corpus in counts.items() if not of_corpus[emotion]]
        if lacking:
            having = ", ".join(f"{of[emotion]} in {corpus}" for corpus, of in counts.items() if of[emotion])
            decision = "kept" if emotion in kept else "left out"
            parts.append(f"{emotion} ({having}, none in {', '.join(lacking)}: {decision})")
    return (f"emotions that not all corpora have: {'; '.join(parts)}",) if parts else ()


def _counts(names: Iterable[str]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in sorted(Counter(names).items()))
