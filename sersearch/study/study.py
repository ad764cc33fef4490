"""A study: spaces, data, training, seeds and search in one TOML file, and the trials that follow from it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sersearch.errors import InputError, unknown
from sersearch.study.conditions import Condition
from sersearch.study.configuration import Configuration, Value, known_models, load_systems
from sersearch.study.fold import Shares
from sersearch.study.hypothesis import Hypothesis
from sersearch.study.space import Range, Space, configure, explain

Sampler = Literal["grid", "random", "tpe", "gp", "cma-es", "qmc", "nsga-ii"]


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
    """What is searched, on what data, how; the defaults are the paper's.

    Attributes:
        name: of the study.
        systems: Python files that define systems of one's own, beside the study.
        spaces: the search spaces.
        store: path of the store; may be given on the command line instead.
        partition: how speakers are shared out among training, validation and test.
        features: settings of the features for all spaces.
        training: settings of training for all spaces.
        seeds: how many times each configuration is trained.
        search: how trials are chosen and ranked.
        resources: what one trial takes of the cluster.
        hypothesis: the one comparison that the study is made for.
    """

    name: str
    systems: tuple[str, ...] = ()
    spaces: tuple[Space, ...] = Field(min_length=1)
    store: str | None = None
    partition: Shares = Shares()
    features: dict[str, Any] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)
    seeds: int = Field(1, ge=1)
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
            for source in (space.top.h, space.top.w) if space.top else ():
                if source not in names:
                    raise ValueError(f"space {space.name} takes its top k from {source}: add that space to the study")
            if not space.finite and not self.samples(space):
                raise ValueError(f"space {space.name} holds an interval, which a grid can't exhaust: list its values")
        if self.hypothesis:
            self.hypothesis.resolve(self.models)
        return self

    def samples(self, space: Space) -> bool:
        """Whether a sampler draws from a space, rather than a grid exhausting it."""
        return self.search.sampler != "grid" and space.top is None

    @property
    def models(self) -> list[str]:
        """The models of all spaces, each once."""
        return list(dict.fromkeys(str(model) for space in self.spaces for model in space.ranges["model"].choices))

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
        raise InputError(f'{path}: spaces = {listed!r} is not a list; write spaces = ["t-cldnn-log-mels"]')
    table["spaces"] = [_inline(path, entry) for entry in listed]
    table.setdefault("name", path.stem)
    if isinstance(table.get("systems"), list):
        table["systems"] = [str((path.parent / str(file)).resolve()) for file in table["systems"]]
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
            raise InputError(f"{source}: {unknown(name, Study.model_fields)}")
    load_systems(table.get("systems", ()))
    try:
        study = Study.model_validate(table)
    except ValidationError as error:
        raise InputError(f"{source}: {_with_names(_with_hint(explain(error), error), table)}") from None
    for space in study.spaces:
        _check_feasible(space, study)
    return study


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
    tables: dict[str, type[BaseModel]] = {"partition": Shares, "search": Search, "resources": Resources}
    tables["hypothesis"] = Hypothesis
    valid = tables.get(table)
    return f"{table}: {unknown(name, valid.model_fields)}" if valid else message


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
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
    for leaf in space.leaves(study.settings):
        if len(seen) == trials:
            break
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
