"""From the folders of one or several corpora to one table of utterances, with the emotions that are kept."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sersearch.errors import InputError
from sersearch.speech.corpora.corpus import Corpus, Refusal, Utterance
from sersearch.speech.corpora.labels import check_emotions, map_labels
from sersearch.speech.corpora.manifest import read_manifest, why_missing
from sersearch.speech.corpora.ravdess import ARCHETYPAL, RAVDESS, read_ravdess

# Emotions that a corpus keeps unless others are asked for, by the name of the corpus; other corpora keep all.
_KEPT_BY_DEFAULT = {RAVDESS: ARCHETYPAL}


def read_corpus(
    name: str,
    folder: Path,
    emotions: tuple[str, ...] | None = None,
    *,
    by_hand: Mapping[str, str] | None = None,
    distinct_speakers: bool = False,
) -> Corpus:
    """Read the utterances of one corpus, with their speakers and emotions; see `read_corpora`."""
    return read_corpora({name: folder}, emotions, by_hand=by_hand, distinct_speakers=distinct_speakers)


def read_corpora(
    folders: Mapping[str, Path],
    emotions: tuple[str, ...] | None = None,
    *,
    by_hand: Mapping[str, str] | None = None,
    distinct_speakers: bool = False,
) -> Corpus:
    """Read the utterances of one or several corpora, with their speakers and emotions.

    In several corpora, the names of speakers and the ids of utterances begin with the name of their corpus, as in
    "ravdess/01": speaker 01 of one corpus is nobody in another.

    Args:
        folders: folder of each corpus, or path of its manifest, by the name of the corpus. The name is "ravdess" for
            RAVDESS as it is distributed; any other name for a corpus that is described by a manifest.csv with the
            columns path, speaker, emotion and optionally gender, utterance and others.
        emotions: emotions to keep; None for the paper's six in RAVDESS and for all in any other corpus. Of several
            corpora, None keeps the emotions that all of them have.
        by_hand: label or emotion -> emotion that it is to become; the usual synonyms (angry, neu) are mapped without.
        distinct_speakers: whether names of speakers that look alike (01 and 1) belong to several people. Without it,
            they are refused.

    Raises:
        InputError: a folder holds no such corpus, a manifest is malformed, two speakers' names look alike, an emotion
            is in none of the corpora, or nothing is left.
    """
    corpora = [_read(name, folder, distinct_speakers) for name, folder in folders.items()]
    joined = _join(corpora)
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
    missing = {utterance: reason for utterance in kept if (reason := why_missing(utterance.path))}
    return replace(
        joined,
        utterances=tuple(utterance for utterance in kept if utterance not in missing),
        refused=joined.refused + tuple(Refusal(utterance.path, reason) for utterance, reason in missing.items()),
        notes=notes + joined.notes,
    )


def _read(name: str, folder: Path, distinct_speakers: bool) -> Corpus:
    if name == RAVDESS:
        return read_ravdess(folder)
    return read_manifest(name, folder, distinct_speakers)


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
    )


def _common_emotions(corpora: Sequence[Corpus], emotion_of: Mapping[str, str]) -> tuple[str, ...]:
    """Find the emotions that all corpora have, out of those that each keeps by default.

    Raises:
        InputError: the corpora have no emotion in common.
    """
    kept_by_corpus: list[set[str]] = []
    for corpus in corpora:
        labels = {utterance.emotion for utterance in corpus.utterances}
        default = _KEPT_BY_DEFAULT.get(corpus.name, labels)
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


def _counts(names: Iterable[str]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in sorted(Counter(names).items()))
