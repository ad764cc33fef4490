"""Commands from sound to a store: corpus, features, functionals, store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sersearch.errors import InputError
from sersearch.terminal.arguments import (
    DistinctSpeakers,
    Emotions,
    Format,
    FormatOption,
    ImpulseResponses,
    Mapping,
    NoiseUnit,
    Speakers,
    parse_corpora,
    parse_list,
    parse_mapping,
    parse_noise,
    parse_pair,
    parse_snr_range,
)
from sersearch.terminal.screen import Screen, say, say_json, say_on_stderr
from sersearch.workers import Parallel, in_parallel

if TYPE_CHECKING:
    from sersearch.speech.corpora import Corpus


def describe_corpus(
    name: Annotated[
        str | None, typer.Argument(help="A corpus of the catalogue, or any name for a folder with a manifest.csv.")
    ] = None,
    folder: Annotated[Path | None, typer.Argument(metavar="DIR", help="The corpus' folder, or its manifest.")] = None,
    emotions: Emotions = None,
    map: Mapping = None,
    distinct_speakers: DistinctSpeakers = False,
    speakers: Speakers = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one per core unless given.")] = None,
) -> None:
    """Show what a corpus contains: counts, speakers, durations, and which files were refused and why.

    Without a name, list the corpora whose layout is known.

    Example: [bold]sersearch corpus ravdess data/RAVDESS[/bold]
    """
    from sersearch.speech.corpora import examine, read_corpus
    from sersearch.terminal.corpus import BuildProgress, print_catalogue, print_survey

    if name is None:
        print_catalogue(Screen())
        return
    if folder is None:
        raise InputError(f"corpus {name}: its folder is missing: give it, as in sersearch corpus ravdess data/RAVDESS")
    recordings = read_corpus(
        name,
        folder,
        parse_list(emotions),
        by_hand=parse_mapping(map),
        distinct_speakers=distinct_speakers,
        about_speakers=speakers,
    )
    with BuildProgress() as progress:
        survey = examine(recordings, workers, progress.counting("decoding"))
    print_survey(survey, Screen())
    if survey.refused:
        raise typer.Exit(2)


def build_features(
    corpus: Annotated[
        list[str],
        typer.Option(metavar="NAME=DIR", help="The corpus, as for the command corpus; several of them share a store."),
    ],
    out: Annotated[Path, typer.Option(metavar="STORE", help="Where the store is built; run again to continue.")],
    noise: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Any folder of audio, or NAME=DIR for a noise library of the catalogue."),
    ] = None,
    emotions: Emotions = None,
    map: Mapping = None,
    distinct_speakers: DistinctSpeakers = False,
    speakers: Speakers = None,
    noises: Annotated[int, typer.Option(min=0, help="Noises drawn for each clean utterance.")] = 20,
    snrs: Annotated[int, typer.Option(min=0, help="SNRs drawn for each clean utterance.")] = 3,
    snr_range: Annotated[str, typer.Option(metavar="LOW:HIGH", help="In dB.")] = "-10:15",
    bands: Annotated[int, typer.Option(min=2, help="Mel bands, the paper's M.")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="Of the noises and SNRs.")] = 0,
    noise_groups: Annotated[
        int | None, typer.Option(min=2, help="Groups of speakers with noises of their own, as many as a study's folds.")
    ] = None,
    noise_unit: Annotated[
        NoiseUnit, typer.Option(help="What is dealt to the groups: recordings, or whole folders of the library.")
    ] = NoiseUnit.recording,
    impulse_responses: ImpulseResponses = None,
    codecs: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="One of them codes each noisy copy, as in gsm,mu-law,opus@16,mp3@40."),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one per core unless given.")] = None,
    skip_refused: Annotated[bool, typer.Option("--skip-refused", help="Leave out files that can't be used.")] = False,
    address: Annotated[
        str | None,
        typer.Option(
            help="A running Ray cluster, or 'auto', whose nodes write the speakers; all have to see all folders."
        ),
    ] = None,
) -> None:
    """Build the store: log-Mels of each utterance and of its noisy copies (Section 5.2).

    Example: [bold]sersearch features --corpus ravdess=data/RAVDESS --noise data/ESC-10 --out stores/ravdess[/bold]
    """
    from sersearch.store.build import build_store
    from sersearch.terminal.corpus import BuildProgress

    noise_library, noise_folder = parse_noise(noise)
    if address is not None:
        # A path means the same on every node if it is absolute.
        corpus = [f"{name}={folder.absolute()}" for name, folder in parse_corpora(corpus).items()]
        noise_folder = noise_folder.absolute() if noise_folder else None
        impulse_responses = impulse_responses.absolute() if impulse_responses else None
        out = out.absolute()
    read = [*parse_corpora(corpus).values(), *(path for path in (noise_folder, impulse_responses) if path)]
    with _writers(address, read, out) as parallel, BuildProgress() as progress:
        recordings = _read_corpora(corpus, parse_list(emotions), map, distinct_speakers, speakers)
        store = build_store(
            out,
            recordings,
            noise_folder,
            noise_library=noise_library,
            noises=noises if noise else 0,
            snrs=snrs if noise else 0,
            snr_range=parse_snr_range(snr_range),
            bands=bands,
            seed=seed,
            noise_groups=(noise_groups or 0) if noise else 0,
            noise_unit=noise_unit.value,
            impulse_folder=impulse_responses,
            codecs=parse_list(codecs) or (),
            workers=workers,
            skip_refused=skip_refused,
            progress=progress,
            decoded=progress.counting("decoding"),
            note=lambda sentence: say_on_stderr(f"note: {sentence}"),
            parallel=parallel,
        )
    rows = sum(info.rows for info in store.speakers)
    say(f"{out}: {rows} copies of {len(store.speakers)} speakers, fingerprint {store.fingerprint}")


@contextmanager
def _writers(address: str | None, read: list[Path], out: Path) -> Iterator[Parallel]:
    """Provide what writes the speakers: processes of this machine, or the nodes of a cluster."""
    if address is None:
        yield in_parallel
        return
    from sersearch.cluster.jobs import cluster_jobs, on_cluster

    with cluster_jobs(address, read, out):
        yield on_cluster


def add_functionals(
    out: Annotated[
        Path,
        typer.Option(metavar="STORE", help="The store to add to; run again to continue."),
    ],
    corpus: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=DIR", help="The corpus (or corpora) of the store: openSMILE's sets."),
    ] = None,
    sets: Annotated[str | None, typer.Option(help="Sets, as in IS09,IS13; all six unless given.")] = None,
    table: Annotated[
        str | None,
        typer.Option(
            metavar="NAME=FILE",
            help="Your own .csv or .parquet: a column utterance, all others numbers.",
        ),
    ] = None,
    map: Mapping = None,
    distinct_speakers: DistinctSpeakers = False,
    speakers: Speakers = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one per core unless given.")] = None,
) -> None:
    """Add one vector per utterance to a store: openSMILE's functionals (Section 4.1), or a table of your own.

    openSMILE comes with the extra `functionals`; its licence allows research and private use, no products.

    Example: [bold]sersearch functionals --corpus ravdess=data/RAVDESS --out stores/ravdess[/bold]
    """
    from sersearch.store.reader import open_store
    from sersearch.store.vectors.opensmile import SETS, extract_functionals, reasons_for_nan
    from sersearch.store.vectors.table import import_table
    from sersearch.terminal.corpus import BuildProgress

    if sets is not None and not corpus:
        raise InputError(f"--sets {sets} was given without a corpus; openSMILE needs the sound: give --corpus NAME=DIR")
    if not (corpus or table):
        raise InputError(
            "The source of the vectors is missing: give --corpus NAME=DIR for openSMILE's functionals, or "
            "--table NAME=FILE for your own numbers"
        )
    store, added = open_store(out), []
    if table:
        added.append(import_table(store, *parse_pair("--table", table)))
    if corpus:
        recordings = _read_corpora(corpus, store.emotions, map, distinct_speakers, speakers)
        with BuildProgress() as progress:
            wanted = SETS if sets is None else parse_list(sets)
            added += extract_functionals(store, recordings, wanted or (), workers, progress)
    for manifest in added:
        say(f"{out}: {manifest.name}: {manifest.utterances} vectors of {manifest.dimensions} numbers")
        for sentence in reasons_for_nan(manifest):
            say(f"{out}: {manifest.name}: {sentence}")


def show_store(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="The store's folder.")],
    verify: Annotated[bool, typer.Option("--verify", help="Check every file: checksums and counts.")] = False,
    corpus: Annotated[
        list[str] | None, typer.Option(metavar="NAME=DIR", help="With --verify: make some rows again from the corpus.")
    ] = None,
    noise: Annotated[str | None, typer.Option(metavar="DIR", help="The noise library, for noisy rows.")] = None,
    impulse_responses: ImpulseResponses = None,
    map: Mapping = None,
    distinct_speakers: DistinctSpeakers = False,
    speakers: Speakers = None,
    format: FormatOption = Format.text,
) -> None:
    """Show what a store holds, and check it.

    Example: [bold]sersearch store stores/ravdess --verify --corpus ravdess=data/RAVDESS --noise data/ESC-10[/bold]
    """
    from sersearch.store.reader import open_manifest, open_store
    from sersearch.terminal.store import checked_facts, histogram_facts, print_store, store_facts

    if (corpus or noise) and not (verify and corpus):
        raise InputError("rows are made again with --verify and --corpus NAME=DIR; --noise DIR adds noisy ones")
    opened = open_manifest(store) if verify else open_store(store)
    recordings = None
    if corpus:
        recordings = _read_corpora(corpus, opened.emotions, map, distinct_speakers, speakers)
    _, noise_folder = parse_noise(noise)
    facts = store_facts(opened)
    if verify:
        facts |= checked_facts(opened, recordings, noise_folder, impulse_responses)
    if not facts.get("faults"):
        facts |= histogram_facts(opened)
    if format is Format.json:
        say_json(facts)
    else:
        print_store(facts, Screen())
    if verify and facts["faults"]:
        raise typer.Exit(1)


def _read_corpora(
    given: list[str],
    emotions: tuple[str, ...] | None,
    mapping: list[str] | None,
    distinct_speakers: bool,
    about_speakers: Path | None,
) -> Corpus:
    """Read the corpora that --corpus names, as the other options say."""
    from sersearch.speech.corpora import read_corpora

    return read_corpora(
        parse_corpora(given),
        emotions,
        by_hand=parse_mapping(mapping),
        distinct_speakers=distinct_speakers,
        about_speakers=about_speakers,
    )
