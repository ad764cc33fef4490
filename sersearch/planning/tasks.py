"""What a study has left to train, as a schedule sees it: trials that are settled, and stand-ins for those to come."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from sersearch.study.agenda import Agenda
from sersearch.study.configuration import Configuration, System, multiply_adds, shapes
from sersearch.study.space import WHOLE, Range, Space, Value
from sersearch.study.study import Study, build


@dataclass(frozen=True)
class Task:
    """Something to train.

    Attributes:
        configuration: what is trained; of a space that isn't settled, one of its candidates in place of the winners.
        spaces: names of the spaces that wait for it.
        after: names of the spaces that it waits for.
        key: the trial's; empty where that isn't settled.
    """

    configuration: System
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


def _stand_ins(space: Space, agenda: Agenda) -> Iterator[Task]:
    """Tasks in place of the trials that a space doesn't have yet."""
    study, after = agenda.study, tuple[str, ...]()
    if study.samples(space):
        made = _drawn_blindly(space, study, agenda.undrawn(space.name))
    elif space.top and space.name in agenda.unsettled:
        made, after = [*_spread(space, study)], (space.top.h, space.top.w)
    else:
        return
    for configuration in made:
        for _ in agenda.trials_of(configuration):
            yield Task(configuration, (space.name,), after)


def _drawn_blindly(space: Space, study: Study, count: int) -> list[System]:
    """So many configurations that can be built, as a sampler draws that knows nothing; always the same."""
    generator = random.Random(0)
    conditions = list(space.conditions(study.settings))
    made: list[System] = []
    while len(made) < count:
        fixed, free = generator.choice(conditions)
        values = {name: _draw(name, found, generator) for name, found in free.items()}
        if configuration := build(space, {**fixed, **values}):
            made.append(configuration)
    return made


def _draw(name: str, found: Range, generator: random.Random) -> Value:
    if found.finite or name in WHOLE:
        return generator.choice(found.choices or found.whole())
    if found.log:
        return float(found.low * (found.high / found.low) ** generator.random())
    return generator.uniform(found.low, found.high)


def _spread(space: Space, study: Study) -> list[Configuration]:
    """As many candidates as the best of other spaces will leave, evenly spread over their cost."""
    networks = [c for c in feasible(space, study) if isinstance(c, Configuration)]
    found = sorted(networks, key=lambda c: multiply_adds(c, 1).cnn + multiply_adds(c, 1).blstm)
    n_h, n_w = top_counts(space, study)
    count = n_h * n_w
    return [found[(2 * index + 1) * len(found) // (2 * count)] for index in range(count)]


def feasible(space: Space, study: Study) -> list[System]:
    """The configurations of a finite space that can be built."""
    return [configuration for configuration in space.enumerate(study.settings) if shapes(configuration).feasible]


def top_counts(space: Space, study: Study) -> tuple[int, int]:
    """How many (h1, h2) and (w1, w2) a space combines: k each, or as many as it shares with their source."""
    assert space.top
    by_name = {other.name: other for other in study.spaces}
    counts = []
    for source, names in ((space.top.h, ("h1", "h2")), (space.top.w, ("w1", "w2"))):
        sizes = [
            {tuple(getattr(c, name) for name in names) for c in feasible(each, study)}
            for each in (space, by_name[source])
            if each.finite
        ]
        counts.append(min(space.top.k, len(set.intersection(*sizes))))
    return counts[0], counts[1]
