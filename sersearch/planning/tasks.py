"""What a study has left to train, as a schedule sees it: trials that are settled, and stand-ins for those to come."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sersearch.study.agenda import FEW_PER_SLOT, Agenda
from sersearch.study.configuration import Configuration, Value
from sersearch.study.space import Range, Space
from sersearch.study.study import Study, build, feasible_configurations


@dataclass(frozen=True)
class Task:
    """Something to train.

    Attributes:
        configuration: what is trained; of a space that isn't settled, one of its candidates in place of the winners.
        spaces: names of the spaces that wait for it.
        after: names of the spaces that it waits for.
        key: the trial's; empty where that isn't settled.
    """

    configuration: Configuration
    spaces: tuple[str, ...]
    after: tuple[str, ...] = ()
    key: str = ""


def tasks(agenda: Agenda) -> list[Task]:
    """What an agenda has left, trials that are running included, about in the order in which it hands them out."""
    names: dict[str, list[str]] = {}
    for name, trials in agenda.spaces.items():
        for trial in trials:
            names.setdefault(trial.key, []).append(name)
    settled = [Task(trial.configuration, tuple(names[trial.key]), key=trial.key) for trial in agenda.left]
    return settled + [task for space in agenda.study.spaces for task in _stand_ins(space, agenda)]


def in_order(given: Iterable[Task], slots: int) -> list[Task]:
    """Tasks in the order in which a search with so many slots hands them out; see `Agenda.order_for`."""
    found = list(given)
    settled = [task for task in found if task.key]
    if len(settled) > FEW_PER_SLOT * slots:
        return found
    dearest_first = sorted(settled, key=lambda task: -task.configuration.relative_cost())
    return dearest_first + [task for task in found if not task.key]


def _stand_ins(space: Space, agenda: Agenda) -> Iterator[Task]:
    """Tasks in place of the trials that a space doesn't have yet, in one fold or in several."""
    study, after = agenda.study, tuple[str, ...]()
    if study.samples(space):
        made = _drawn_blindly(space, study, agenda.undrawn(space.name))
    elif space.top and space.name in agenda.unsettled:
        made = [*_spread(space, study)] * agenda.unsettled_folds(space)
        after = (space.top.h, space.top.w)
    else:
        return
    for configuration in made:
        for _ in range(agenda.repetitions(space)):
            yield Task(configuration, (space.name,), after)


def _drawn_blindly(space: Space, study: Study, count: int) -> list[Configuration]:
    """`count` configurations that can be built, drawn as a sampler draws without outcomes; always the same."""
    generator = random.Random(0)
    conditions = list(space.conditions(study.settings))
    made: list[Configuration] = []
    while len(made) < count:
        fixed, free = generator.choice(conditions)
        values = {name: _draw(found, space.is_whole(name), generator) for name, found in free.items()}
        if configuration := build(space, {**fixed, **values}):
            made.append(configuration)
    return made


def _draw(found: Range, whole: bool, generator: random.Random) -> Value:
    if found.finite or whole:
        return generator.choice(found.choices or found.whole())
    if found.log:
        return float(found.low * (found.high / found.low) ** generator.random())
    return generator.uniform(found.low, found.high)


def _spread(space: Space, study: Study) -> list[Configuration]:
    """As many candidates as the best of other spaces will leave, evenly spread over their cost."""
    candidates = sorted(feasible_configurations(space, study), key=_multiply_adds)
    n_h, n_w = top_counts(space, study)
    count = n_h * n_w
    return [candidates[(2 * index + 1) * len(candidates) // (2 * count)] for index in range(count)]


def _multiply_adds(configuration: Configuration) -> int:
    counted = configuration.multiply_adds(1)
    return counted.cnn + counted.blstm if counted else 0


def top_counts(space: Space, study: Study) -> tuple[int, int]:
    """How many (h1, h2) and (w1, w2) a space combines: k each, or as many as it shares with their source."""
    assert space.top
    by_name = {other.name: other for other in study.spaces}
    counts = []
    for source, names in ((space.top.h, ("h1", "h2")), (space.top.w, ("w1", "w2"))):
        sizes = [
            {tuple(getattr(c, name) for name in names) for c in feasible_configurations(each, study)}
            for each in (space, by_name[source])
            if each.finite
        ]
        counts.append(min(space.top.k, len(set.intersection(*sizes))))
    return counts[0], counts[1]
