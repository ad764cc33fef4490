"""A study: spaces, data, training, seeds and search in one TOML file, and the trials that follow from it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sersearch.digests import short_digest
from sersearch.errors import InputError
from sersearch.study.configuration import SVMConfiguration, System, fields, parse_configuration, shapes
from sersearch.study.fold import Partition, Shares
from sersearch.study.space import KERNELS, WHOLE, Range, Space, Value, configure, explain, unknown

Condition = Literal["noisy", "clean"]
CONDITIONS: tuple[Condition, ...] = ("noisy", "clean")

Sampler = Literal["grid", "random", "tpe", "gp", "cma-es", "qmc", "nsga-ii"]

FEATURE_SETTINGS = ("bands", "cepstra", "deltas", "left", "right", "normalisation")
TRAINING_SETTINGS = tuple(p for p in fields("LDNN") if p not in ("model", "features", *KERNELS, *FEATURE_SETTINGS))


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Search(_Table):
    """How trials are chosen and ranked.

    Attributes:
        sampler: "grid" exhausts each space; the others are Optuna's. NSGA-II seeks a high UA from few parameters.
            Spaces that combine the best of others (`top`) are exhausted whatever the sampler.
        trials: how many distinct configurations the sampler draws of each space; all of them where there are fewer.
        seed: of the sampler.
        batch: configurations are drawn so many at a time, each batch knowing the outcomes of all before it, so that
            the sequence is the same however many are trained at once.
        objective: the condition of the validation UA that is maximised, and that `top` ranks by.
        pruner: what stops a trial that lags behind the others.
    """

    sampler: Sampler = "grid"
    trials: int | None = Field(None, ge=1)
    seed: int = Field(0, ge=0, lt=2**32)
    batch: int = Field(1, ge=1)
    objective: Condition = "noisy"
    pruner: Literal["none", "asha", "median"] = "none"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.sampler == "grid":
            if self.trials is not None:
                raise ValueError(f"trials = {self.trials} was given, but a grid is trained whole: leave trials out")
        elif self.trials is None:
            raise ValueError(f"the sampler {self.sampler} needs trials, the configurations of a space: trials = 50")
        if self.sampler == "nsga-ii" and self.pruner != "none":
            raise ValueError(f"pruner = {self.pruner} was given, but nsga-ii has two objectives: leave pruner out")
        return self


class Resources(_Table):
    """What one trial takes of the cluster, and how often a failed one is tried again.

    Several trials share a GPU by fractions; one that finds too little memory there is tried again with twice its share.
    """

    cpus: float = Field(1, gt=0)
    gpus: float = Field(0, ge=0)
    retries: int = Field(1, ge=0)


class Study(_Table):
    """What is searched, on what data, how; the defaults are the paper's."""

    name: str
    spaces: tuple[Space, ...] = Field(min_length=1)
    store: str | None = None
    partition: Shares = Shares()
    features: dict[str, Any] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)
    seeds: int = Field(1, ge=1)
    search: Search = Search()
    resources: Resources = Resources()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for table, valid in (("features", FEATURE_SETTINGS), ("training", TRAINING_SETTINGS)):
            for name in getattr(self, table):
                if name not in valid:
                    raise ValueError(f"{table}: {unknown(name, valid)}")
        names = [space.name for space in self.spaces]
        for space in self.spaces:
            if names.count(space.name) > 1:
                raise ValueError(f"space {space.name} is named twice; each has a name of its own")
            for source in (space.top.h, space.top.w) if space.top else ():
                if source not in names:
                    raise ValueError(f"space {space.name} takes its top k from {source}: add that space to the study")
            if not space.finite and not self.samples(space):
                raise ValueError(f"space {space.name} holds an interval, which a grid can't exhaust: list its values")
        return self

    def samples(self, space: Space) -> bool:
        """Whether a sampler draws from a space, rather than a grid exhausting it."""
        return self.search.sampler != "grid" and space.top is None

    @property
    def settings(self) -> dict[str, Value]:
        """The values of all parameters that the study sets for every space."""
        return {**self.features, **self.training}


def load_study(path: Path) -> Study:
    """Read a study; the spaces that it names are files beside it.

    Raises:
        InputError: the file, a space or a value is not as it should be.
    """
    table = _read_toml(path)
    listed = table.get("spaces", [])
    if not isinstance(listed, list):
        raise InputError(f'{path}: spaces = {listed!r} is no list; write spaces = ["t-cldnn-log-mels"]')
    table["spaces"] = [_inline(path, entry) for entry in listed]
    table.setdefault("name", path.stem)
    if "store" in table:
        table["store"] = str((path.parent / str(table["store"])).resolve())
    return parse_study(table, str(path))


def parse_study(table: Mapping[str, Any], source: str) -> Study:
    """Validate a study's table; `source` names it in errors.

    Raises:
        InputError: one line that says what is wrong.
    """
    for name in table:
        if name not in Study.model_fields:
            raise InputError(f"{source}: {unknown(name, Study.model_fields.keys())}")
    try:
        study = Study.model_validate(table)
    except ValidationError as error:
        raise InputError(f"{source}: {_with_names(_with_hint(explain(error), error), table)}") from None
    for space in study.spaces:
        _check_feasible(space, study)
    return study


def _check_feasible(space: Space, study: Study) -> None:
    sampled = study.samples(space)
    made = _one_by_one(space, study) if sampled else space.enumerate(study.settings)
    found = [shapes(configuration) for configuration in made]
    if any(each.feasible for each in found) or (sampled and (not space.countable or wanted(space, study))):
        return
    raise InputError(f"space {space.name}: no configuration can be built; {found[0].reason}: choose smaller kernels")


def _one_by_one(space: Space, study: Study) -> Iterator[System]:
    """Configurations that between them take every value, and both ends of every interval: a space may be too large.

    Raises:
        InputError: a value that its parameter can't take.
    """
    for fixed, free in space.conditions(study.settings):
        ends = {name: found.choices or _ends(name, found) for name, found in free.items()}
        first = {name: values[0] for name, values in ends.items()}
        yield configure(space.name, {**fixed, **first})
        for name, values in ends.items():
            for value in values[1:]:
                yield configure(space.name, {**fixed, **first, name: value})


def _ends(name: str, found: Range) -> tuple[Value, Value]:
    return (found.whole()[0], found.whole()[-1]) if name in WHOLE else (found.low, found.high)


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
    tables: dict[str, type[BaseModel]] = {"partition": Shares, "search": Search, "resources": Resources}
    valid = tables.get(table)
    return f"{table}: {unknown(name, valid.model_fields.keys())}" if valid else message


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; name a study, as in search_spaces/smoke.toml") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} can't be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is not TOML: {error}") from None


def _inline(study: Path, entry: Any) -> Any:
    if not isinstance(entry, str):
        return entry
    path = study.parent / f"{entry.removesuffix('.toml')}.toml"
    if not path.exists():
        near = ", ".join(sorted(p.stem for p in study.parent.glob("*.toml") if p != study)) or "none"
        raise InputError(f"{study}: space {entry} is not beside it; files there are {near}")
    return {"name": path.stem} | _read_toml(path)


@dataclass(frozen=True)
class Trial:
    """One model to train: its configuration, its seed and the data it learns from.

    Attributes:
        configuration: how it is built and trained.
        seed: which repetition it is, from 0.
        data: digest of the store's recipe and the partition, for an SVM of its functionals too.
        held_out: the speaker that leave-one-subject-out leaves out; empty for other protocols.
        key: hash of all four; every bit of a trial's randomness comes from it.
    """

    configuration: System
    seed: int
    data: str
    held_out: str = ""
    key: str = field(init=False)

    def __post_init__(self) -> None:
        """Derive the key."""
        left_out = [self.held_out] if self.held_out else []
        configuration = self.configuration.canonical()
        # Keys are older than this setting, whose default is what was computed before.
        if configuration.get("precision") == "float32":
            del configuration["precision"]
        object.__setattr__(self, "key", short_digest([configuration, self.seed, self.data, *left_out]))

    def record(self) -> dict[str, Any]:
        """The trial as plain JSON."""
        record = {
            "key": self.key,
            "configuration": self.configuration.canonical(),
            "seed": self.seed,
            "data": self.data,
        }
        return record | ({"held_out": self.held_out} if self.held_out else {})

    @staticmethod
    def from_record(record: Mapping[str, Any]) -> Trial:
        """The inverse of `record`."""
        configuration = parse_configuration(record["configuration"])
        return Trial(configuration, record["seed"], record["data"], record.get("held_out", ""))


@dataclass(frozen=True)
class Material:
    """What a study's trials learn from, as far as their keys know it.

    Attributes:
        data: `data_digest` of the store and the partition.
        speakers: all of the store's; leave-one-subject-out has a trial for each.
        functionals: digest of each set of functionals that the store holds, by name.
    """

    data: str
    speakers: tuple[str, ...] = ()
    functionals: Mapping[str, str] = field(default_factory=dict)

    def trials(self, configuration: System, seeds: int) -> list[Trial]:
        """The trials of a configuration: one a seed; of an SVM, which draws nothing, one, or one a speaker left out."""
        if not isinstance(configuration, SVMConfiguration):
            return [Trial(configuration, seed, self.data) for seed in range(seeds)]
        data = short_digest([self.data, self.functionals.get(configuration.features, "")])
        left_out = self.speakers if configuration.protocol == "loso" else ("",)
        return [Trial(configuration, 0, data, speaker) for speaker in left_out]

    def most_trials(self, space: Space, seeds: int) -> int:
        """How many trials a configuration of a space can have."""
        if space.ranges["model"].choices != ("SVM",):
            return seeds
        loso = "protocol" in space.ranges and "loso" in space.ranges["protocol"].choices
        return len(self.speakers) if loso else 1


def data_digest(fingerprint: str, partition: Partition) -> str:
    """What a trial's key knows of its data: the store's fingerprint and the partition."""
    return short_digest([fingerprint, partition.model_dump(mode="json")])


def configurations(space: Space, study: Study, scores: Mapping[str, Scores]) -> list[System] | None:
    """The feasible configurations of a space, or None while the spaces that it builds on are not complete.

    Args:
        space: one of the study's.
        study: for the settings and the objective.
        scores: of each space that is complete, its configurations with their mean validation UA in per cent.
    """
    found = [c for c in space.enumerate(study.settings) if shapes(c).feasible]
    if space.top is None:
        return found
    if space.top.h not in scores or space.top.w not in scores:
        return None
    best_h = _best(scores[space.top.h], ("h1", "h2"), space.top.k)
    best_w = _best(scores[space.top.w], ("w1", "w2"), space.top.k)
    return [c for c in found if sizes(c, ("h1", "h2")) in best_h and sizes(c, ("w1", "w2")) in best_w]


def build(space: Space, values: Mapping[str, Value]) -> System | None:
    """The configuration of a space's values; None where they don't go together or can't be built."""
    try:
        made = configure(space.name, values)
    except InputError:
        return None
    return made if shapes(made).feasible else None


def wanted(space: Space, study: Study) -> int:
    """How many distinct configurations a sampler is to draw of a space: `trials`, or all where there are fewer."""
    trials = study.search.trials
    assert trials is not None
    if not space.countable:
        return trials
    seen: set[System] = set()
    for leaf in space.leaves(study.settings):
        if len(seen) == trials:
            break
        if made := build(space, leaf):
            seen.add(made)
    return len(seen)


Scores = Sequence[tuple[System, float]]


def sizes(configuration: System, names: Sequence[str]) -> tuple[int, ...]:
    """Some of a configuration's kernel sizes, by name."""
    return tuple(getattr(configuration, name) for name in names)


def _best(scores: Scores, names: tuple[str, str], k: int) -> set[tuple[int, ...]]:
    """The k best distinct kernels; ties go to the smaller ones."""
    found = [(sizes(c, names), score) for c, score in scores]
    ranked = sorted(found, key=lambda entry: (-entry[1], entry[0]))
    return set(list(dict.fromkeys(size for size, _ in ranked))[:k])
