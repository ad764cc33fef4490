"""A study: spaces, data, training, seeds and search in one TOML file, and the trials that follow from it."""

from __future__ import annotations

import math
import os
import stat
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from sersearch.errors import InputError, printable, unknown
from sersearch.shipped import find_study, shipped_space, shipped_spaces
from sersearch.study.conditions import Condition
from sersearch.study.configuration import Configuration, Value, known_models, load_systems
from sersearch.study.fold import PARTITIONS, Partition, Shares
from sersearch.study.hypothesis import Hypothesis
from sersearch.study.space import Range, Space, Top, configure, explain
from sersearch.study.values import MOST_BYTES, MOST_TRIALS, SHOWN, Table, fault, shown

CHECKPOINT_EVERY_S: float = 60
"""How often a trial in training writes a checkpoint unless a study says otherwise, in seconds."""

_ROUNDING = 1e-9
"""Far less than the smallest share of a GPU: ten trials of 0.1 fit on one."""

Sampler = Literal["grid", "random", "tpe", "gp", "cma-es", "qmc", "nsga-ii"]


class Search(Table):
    """How trials are chosen and ranked.

    Attributes:
        sampler: "grid" exhausts each space; the others are Optuna's. NSGA-II seeks a high UA from few parameters.
            Spaces that combine the best of others (`top`) are exhausted whatever the sampler.
        trials: how many distinct configurations the sampler draws of each space; all of them where there are fewer.
        seed: seed of the sampler.
        window: how many configurations of a space may be without an outcome at once. Each is drawn from the outcomes of
            all but the last `window` - 1 before it, so that the sequence is the same however many are trained at once.
            1 is the sequential search. Twice as many as trials fit on the cluster when the run is first launched,
            unless given.
        objective: the condition of the validation UA that is maximised, and that `top` ranks by.
        pruner: what stops a trial that lags behind the others.
    """

    sampler: Sampler = "grid"
    trials: int | None = Field(None, ge=1, le=MOST_TRIALS)
    seed: int = Field(0, ge=0, lt=2**32)
    window: int | None = Field(None, ge=1, le=MOST_TRIALS)
    objective: Condition = "noisy"
    pruner: Literal["none", "asha", "median"] = "none"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.sampler == "grid":
            if self.trials is not None:
                raise ValueError(f"trials = {self.trials} was given, but a grid is trained whole: leave trials out")
            if self.window is not None:
                raise ValueError(f"window = {self.window} was given, but a grid waits for nothing: leave window out")
        elif self.trials is None:
            raise ValueError(f"the sampler {self.sampler} needs trials, the configurations of a space: trials = 50")
        if self.sampler == "nsga-ii" and self.pruner != "none":
            raise ValueError(f"pruner = {self.pruner} was given, but nsga-ii has two objectives: leave pruner out")
        return self


class Resources(Table):
    """What one trial takes of the cluster, how often it is tried again if it fails, and how often it is saved.

    Several trials share a GPU by fractions. A trial gets twice its share or more where it would find too little memory.

    Attributes:
        cpus: cores per trial.
        gpus: GPUs per trial at least; 0.25 lets four trials share one. Trials of systems without a GPU form, such as
            SVMs, take none.
        retries: how often a failed trial is tried again.
        checkpoint_every_s: seconds of training after which a trial writes a checkpoint, also inside an epoch. About so
            much training is lost if a machine dies.
    """

    cpus: float = Field(1, gt=0)
    gpus: float = Field(0, ge=0)
    retries: int = Field(1, ge=0)
    checkpoint_every_s: float = Field(CHECKPOINT_EVERY_S, ge=0)

    @property
    def without_gpus(self) -> Resources:
        """What a trial takes whose system has no GPU form."""
        return self.model_copy(update={"gpus": 0.0})

    def slots(self, cpus: float, gpus: float) -> int:
        """How many trials a machine with so many cores and GPUs runs at a time.

        Example:
            >>> Resources(cpus=2, gpus=0.4).slots(cpus=64, gpus=4)
            8
        """
        fits = [cpus / self.cpus]
        if self.gpus >= 1:
            fits.append(gpus / self.gpus)
        elif self.gpus:
            # A trial's share is one of one GPU.
            fits.append(gpus * math.floor(1 / self.gpus + _ROUNDING))
        return math.floor(min(fits) + _ROUNDING)


class Study(Table):
    """What is searched, on what data, how; the defaults are the paper's.

    Attributes:
        name: name of the study; that of its file unless given.
        systems: Python files that define systems of one's own, beside the study.
        spaces: the search spaces.
        store: path of the store; may be given on the command line instead.
        partition: who is learnt from, who chooses, who tests: shares, folds, or a split by name.
        features: settings of the features for all spaces.
        training: settings of training for all spaces.
        seeds: how many times each configuration is trained.
        search: how trials are chosen and ranked.
        resources: what one trial takes of the cluster.
        hypothesis: the one comparison that the study is made for.
    """

    name: str = Field(min_length=1, max_length=200)
    systems: tuple[str, ...] = ()
    spaces: tuple[Space, ...] = Field(min_length=1)
    store: str | None = None
    partition: Partition = Shares()
    features: dict[str, Any] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)
    seeds: int = Field(1, ge=1, le=MOST_TRIALS)
    search: Search = Search()
    resources: Resources = Resources()
    hypothesis: Hypothesis | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        kinds = known_models().values()
        tables = {
            "features": {name for kind in kinds for name in kind.feature_settings},
            "training": {name for kind in kinds for name in kind.training_settings},
        }
        for table, valid in tables.items():
            for name in getattr(self, table):
                if name not in valid:
                    raise ValueError(f"{table}: {unknown(name, valid)}")
        names = [space.name for space in self.spaces]
        for space in self.spaces:
            if names.count(space.name) > 1:
                raise ValueError(f"space {space.name} is named twice; each has a name of its own")
            if space.top:
                self._check_sources(space, space.top)
            self._check_choice(space)
            if not space.finite and not self.samples(space):
                raise ValueError(f"space {space.name} holds an interval, which a grid can't exhaust: list its values")
        if self.hypothesis:
            self.hypothesis.resolve(self.models)
        return self

    def _check_choice(self, space: Space) -> None:
        """Refuse several protocols where results decide what is tried: each fold decides by its own alone."""
        sources = [other for other in self.spaces if space.top and other.name in (space.top.h, space.top.w)]
        protocols = sorted({protocol for each in (space, *sources) for protocol in each.protocols})
        if (space.top or self.samples(space)) and len(protocols) > 1:
            raise ValueError(
                f"space {space.name} is trained under the protocols {' and '.join(protocols)}, but what is tried next "
                "is decided in each fold by itself: give each protocol spaces of its own"
            )

    def _check_sources(self, space: Space, top: Top) -> None:
        """Refuse a space that waits for itself, or for the best of what is missing or has no kernels to take."""
        spaces = {each.name: each for each in self.spaces}
        for source, sizes in ((top.h, ("h1", "h2")), (top.w, ("w1", "w2"))):
            if source not in spaces:
                raise ValueError(f"space {space.name} takes its top k from {source}: add that space to the study")
            if not set(sizes) <= set(spaces[source].ranges):
                raise ValueError(
                    f"space {space.name} takes its top k of {' and '.join(sizes)} from {source}, which does not name "
                    "them: name a space that does"
                )
            if spaces[source].top:
                raise ValueError(
                    f"space {space.name} takes its top k from {source}, which builds on others itself: name a space "
                    "without top"
                )

    def on_gpu(self, kind: type[Configuration]) -> bool:
        """Whether trials of a kind take GPUs: the study gives them some, and their system has a GPU form."""
        return self.resources.gpus > 0 and kind.uses_gpu

    @property
    def devices(self) -> frozenset[bool]:
        """For each kind of trial that the study has, whether it takes GPUs."""
        return frozenset(self.on_gpu(space.kind) for space in self.spaces)

    def samples(self, space: Space) -> bool:
        """Whether a sampler draws from a space, rather than a grid exhausting it."""
        return self.search.sampler != "grid" and space.top is None

    def repetitions(self, space: Space) -> int:
        """How many trials a configuration of a space has in each fold: one per seed."""
        return self.seeds if space.kind.seeded else 1

    @property
    def models(self) -> list[str]:
        """The models of all spaces, each once."""
        return list(dict.fromkeys(str(model) for space in self.spaces for model in space.ranges["model"].choices))

    @property
    def settings(self) -> dict[str, Value]:
        """The values of all parameters that the study sets for every space."""
        return {**self.features, **self.training}


def load_study(path: Path) -> Study:
    """Read a study; the spaces that it names are files beside it, or come with the package.

    Args:
        path: a file, or the name of a study that comes with the package, such as `table-4`.

    Raises:
        InputError: the file, a space or a value is not as it should be.
    """
    return parse_study(read_study(path), str(find_study(path)))


def read_study(path: Path) -> dict[str, Any]:
    """Read a study's table, with each space in full and paths that hold from any folder; it is not validated.

    Args:
        path: a file, or the name of a study that comes with the package.

    Raises:
        InputError: the file or a space's can't be read.
    """
    path = find_study(path)
    table = _read_toml(path)
    listed = table.get("spaces", [])
    if not isinstance(listed, list):
        raise InputError(f'{path}: spaces = {shown(listed)} is not a list; write spaces = ["t-cldnn-log-mels"]')
    table["spaces"] = [_inline(path, entry) for entry in listed]
    table.setdefault("name", printable(path.stem))
    systems = table.get("systems", [])
    if not isinstance(systems, list) or not all(isinstance(file, str) for file in systems):
        raise InputError(f'{path}: systems = {shown(systems)} is no list of files; write systems = ["mine.py"]')
    table["systems"] = [str((path.parent / file).resolve()) for file in systems]
    partition = table.get("partition")
    if isinstance(partition, dict) and isinstance(partition.get("file"), str):
        table["partition"] = partition | {"file": str((path.parent / partition["file"]).resolve())}
    if isinstance(table.get("store"), str):
        table["store"] = str((path.parent / table["store"]).resolve())
    return table


def parse_study(table: Mapping[str, Any], source: str) -> Study:
    """Validate a study's table; `source` names it in errors.

    Raises:
        InputError: one line that says what is wrong.
    """
    for name in table:
        if name not in Study.model_fields:
            raise InputError(f"{source}: {unknown(name, Study.model_fields)}")
    load_systems(table.get("systems", ()))
    try:
        study = Study.model_validate(table)
    except ValidationError as error:
        raise InputError(f"{source}: {_with_names(_with_hint(explain(error), error), table)}") from None
    for space in study.spaces:
        _check_feasible(space, study)
    _check_trials(study)
    return study


def _check_trials(study: Study) -> None:
    """Refuse more trials than a study may have; the folds of a store come on top of them."""
    seeded = [space for space in study.spaces if space.kind.seeded]
    trials = study.seeds * sum(_configurations_at_most(space, study) for space in seeded)
    if trials > MOST_TRIALS:
        # Counting those that can be built takes seconds.
        trials = study.seeds * sum(_count_configurations(space, study) for space in seeded)
    if trials > MOST_TRIALS:
        raise InputError(
            f"study {study.name}: seeds = {study.seeds:,} of all its configurations are {trials:,} trials, and a study "
            f"may have {MOST_TRIALS:,}: choose fewer seeds, or fewer values"
        )


def _configurations_at_most(space: Space, study: Study) -> int:
    """How many configurations of a space are trained at most."""
    if study.samples(space):
        assert study.search.trials
        return study.search.trials
    combinations = space.combinations(study.settings)
    return min(combinations, space.top.k**2) if space.top else combinations


def _count_configurations(space: Space, study: Study) -> int:
    """How many configurations of a space are trained at most, where those that can't be built are not counted."""
    if study.samples(space):
        return wanted(space, study)
    feasible = len(feasible_configurations(space, study))
    return min(feasible, space.top.k**2) if space.top else feasible


def _check_feasible(space: Space, study: Study) -> None:
    sampled = study.samples(space)
    tried = _one_by_one(space, study) if sampled else space.enumerate(study.settings)
    shapes = [configuration.shapes for configuration in tried]
    if any(each.feasible for each in shapes):
        return
    if sampled and (not space.countable or wanted(space, study)):
        return
    raise InputError(f"space {space.name}: no configuration can be built; {shapes[0].reason}: choose smaller kernels")


def _one_by_one(space: Space, study: Study) -> Iterator[Configuration]:
    """Configurations that between them take every value, and both ends of every interval: a space may be too large.

    Raises:
        InputError: a value that its parameter can't take.
    """
    for fixed, free in space.conditions(study.settings):
        ends = {name: values.choices or _ends(values, space.is_whole(name)) for name, values in free.items()}
        first = {name: values[0] for name, values in ends.items()}
        yield configure(space.name, {**fixed, **first})
        for name, values in ends.items():
            for value in values[1:]:
                yield configure(space.name, {**fixed, **first, name: value})


def _ends(interval: Range, whole: bool) -> tuple[Value, Value]:
    if whole:
        return interval.whole()[0], interval.whole()[-1]
    return interval.low, interval.high


def _with_names(message: str, table: Mapping[str, Any]) -> str:
    for number, space in enumerate(table.get("spaces", [])):
        if isinstance(space, Mapping) and "name" in space:
            message = message.replace(f"spaces.{number}", f"space {space['name']}", 1)
    return message


def _with_hint(message: str, error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    if first["type"] != "extra_forbidden":
        return message
    table, name = str(first["loc"][0]), str(first["loc"][-1])
    tables: dict[str, tuple[type[BaseModel], ...]] = {
        "hypothesis": (Hypothesis,),
        "partition": PARTITIONS,
        "resources": (Resources,),
        "search": (Search,),
    }
    valid = [field for kind in tables.get(table, ()) for field in kind.model_fields]
    if not valid:
        return message
    if name in valid:
        return f"{table}: {name} does not go together with the other keys given there: leave it out"
    return f"{table}: {unknown(name, list(dict.fromkeys(valid)))}"


def _read_toml(path: Path) -> dict[str, Any]:
    text = _read_text(path)
    try:
        table = tomllib.loads(text)
    except RecursionError:
        raise InputError(f"{path}: its lists or tables are nested too deep; write each value in one list") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is not TOML: {error}") from None
    except ValueError:  # Python reads no number of so many digits.
        raise InputError(f"{path}: a number of more than 64 bits was given; write a smaller one") from None
    found = fault(table)
    if found:
        raise InputError(f"{path}: {found}")
    return table


def _read_text(path: Path) -> str:
    """Read a file of TOML, which is neither a pipe that nobody may ever write to nor longer than `MOST_BYTES`."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError(f"{path}: is not a file; name a file of TOML, as in search_spaces/smoke.toml")
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise InputError(f"{path}: is longer than {MOST_BYTES:,} bytes; name a file of TOML, which is shorter")
        return content.decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; name a study, as in search_spaces/smoke.toml") from None
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}); name a file that can") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from None


def _inline(study: Path, entry: Any) -> Any:
    if not isinstance(entry, str):
        return entry
    name = entry.removesuffix(".toml")
    beside = study.parent / f"{name}.toml"
    path = beside if os.path.lexists(beside) else shipped_space(name)
    if path is None:
        spaces = [file.stem for file in study.parent.glob("*.toml") if file != study]
        raise InputError(f"{study}: {unknown(name[:SHOWN], {*spaces, *shipped_spaces()}, 'space')}")
    return {"name": printable(path.stem)} | _read_toml(path)


def configurations(space: Space, study: Study, scores: Mapping[str, Scores]) -> list[Configuration] | None:
    """The feasible configurations of a space, or None while the spaces that it builds on are not complete.

    Args:
        space: one of the study's.
        study: for the settings and the objective.
        scores: of each space that is complete, its configurations with their mean validation UA in per cent.
    """
    feasible = feasible_configurations(space, study)
    if space.top is None:
        return feasible
    if space.top.h not in scores or space.top.w not in scores:
        return None
    best_h = _best(scores[space.top.h], ("h1", "h2"), space.top.k)
    best_w = _best(scores[space.top.w], ("w1", "w2"), space.top.k)
    return [c for c in feasible if sizes(c, ("h1", "h2")) in best_h and sizes(c, ("w1", "w2")) in best_w]


def feasible_configurations(space: Space, study: Study) -> list[Configuration]:
    """The configurations of a finite space that can be built."""
    return [configuration for configuration in space.enumerate(study.settings) if configuration.shapes.feasible]


def build(space: Space, values: Mapping[str, Value]) -> Configuration | None:
    """The configuration of a space's values; None where they don't go together or can't be built."""
    try:
        made = configure(space.name, values)
    except InputError:
        return None
    return made if made.shapes.feasible else None


def wanted(space: Space, study: Study) -> int:
    """How many distinct configurations a sampler is to draw of a space: `trials`, or all where there are fewer."""
    trials = study.search.trials
    assert trials is not None
    if not space.countable:
        return trials
    seen: set[Configuration] = set()
    for number, leaf in enumerate(space.leaves(study.settings)):
        if len(seen) == trials:
            break
        if number == MOST_TRIALS:
            raise InputError(
                f"space {space.name}: of the first {MOST_TRIALS:,} combinations of its ranges only {len(seen):,} can "
                f"be built, fewer than trials = {trials:,}: narrow its ranges"
            )
        if made := build(space, leaf):
            seen.add(made)
    return len(seen)


Scores = Sequence[tuple[Configuration, float]]


def sizes(configuration: Configuration, names: Sequence[str]) -> tuple[int, ...]:
    """Some of a configuration's kernel sizes, by name."""
    return tuple(getattr(configuration, name) for name in names)


def _best(scores: Scores, names: tuple[str, str], k: int) -> set[tuple[int, ...]]:
    """The k best distinct kernels; ties go to the smaller ones."""
    found = [(sizes(c, names), score) for c, score in scores]
    ranked = sorted(found, key=lambda entry: (-entry[1], entry[0]))
    return set(list(dict.fromkeys(size for size, _ in ranked))[:k])
