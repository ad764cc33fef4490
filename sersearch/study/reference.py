"""Every setting of a study, read from the models that validate it: for docs/study.md and for a new study.

`python -m sersearch.study.reference docs/study.md` writes the tables between the page's marks again.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel

from sersearch.errors import InputError
from sersearch.shipped import shipped_spaces
from sersearch.study.configuration import Configuration, NetworkConfiguration, SVMConfiguration, known_models
from sersearch.study.fold import PARTITION_FORMS
from sersearch.study.space import Top
from sersearch.study.study import Study

DECISIONS = "decisions.md"


@dataclass(frozen=True)
class Setting:
    """One key of a study or of a space.

    Attributes:
        table: the table that the key is in; empty for the study's own keys.
        name: of the key.
        values: what it may be, in words.
        default: as TOML; empty where there is none.
        meaning: what it decides, in Markdown.
        paper: the paper's value, in Markdown; empty where the paper has no such thing.
    """

    table: str
    name: str
    values: str
    default: str
    meaning: str
    paper: str


def settings() -> dict[str, list[Setting]]:
    """The keys of each table of a study, by the table's name; "" is the study's own, "space ..." a space's."""
    tables = {"": _settings("", Study, _own_keys())}
    for name, models in _tables().items():
        tables[name] = []
        for model in models:
            known = {setting.name for setting in tables[name]}
            tables[name] += _settings(name, model, [field for field in model.model_fields if field not in known])
    for kind in known_models().values():
        for table, names in (("features", kind.feature_settings), ("training", kind.training_settings)):
            known = {setting.name for setting in tables.setdefault(table, [])}
            tables[table] += _settings(table, kind, [name for name in names if name not in known])
    tables["space of networks"] = _space_keys(NetworkConfiguration)
    tables["space of SVMs"] = _space_keys(SVMConfiguration)
    tables["top"] = _settings("top", Top, Top.model_fields)
    return tables


def setting_paths() -> tuple[str, ...]:
    """The dotted path of every key outside spaces, such as `training.epochs` and `seeds`."""
    found = settings()
    tables = ["", "features", "training", *_tables()]
    return tuple(f"{table}.{setting.name}".lstrip(".") for table in tables for setting in found[table])


def _own_keys() -> list[str]:
    return [name for name in Study.model_fields if name not in {"features", "training", *_tables()}]


def _tables() -> dict[str, tuple[type[BaseModel], ...]]:
    """The tables of a study that have models of their own, such as [search]; several where it has several forms."""
    models: dict[str, tuple[type[BaseModel], ...]] = {}
    for name, field in Study.model_fields.items():
        # A table that may be missing, such as [hypothesis], is a model or None.
        optional = get_origin(field.annotation) in (Union, UnionType)
        for kind in get_args(field.annotation) if optional else (field.annotation,):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                models[name] = (kind,)
    return {"partition": PARTITION_FORMS} | models


def _space_keys(kind: type[Configuration]) -> list[Setting]:
    elsewhere = {*kind.feature_settings, *kind.training_settings}
    return _settings("space", kind, [name for name in kind.model_fields if name not in elsewhere])


def _settings(table: str, model: type[BaseModel], names: Iterable[str]) -> list[Setting]:
    schemas: Mapping[str, Any] = model.model_json_schema()["properties"]
    meanings = _meanings(model)
    return [_setting(table, name, schemas[name], meanings.get(name, "")) for name in names]


def _setting(table: str, name: str, schema: Mapping[str, Any], words: str) -> Setting:
    meaning, _, paper = words.partition(" Paper: ")
    default = schema.get("default")
    shown = "" if default is None else json.dumps(default, ensure_ascii=False)
    return Setting(table, name, describe_values(schema), shown, _sentence(meaning), _link(paper.rstrip(".")))


def describe_values(schema: Mapping[str, Any]) -> str:
    """Say which values a JSON schema allows.

    Example:
        >>> describe_values({"type": "integer", "minimum": 1})
        'whole number, at least 1'
    """
    if "enum" in schema or "const" in schema:
        choices = schema.get("enum", [schema.get("const")])
        return ", ".join(f'"{choice}"' for choice in choices)
    if "anyOf" in schema:
        return " or ".join(describe_values(part) for part in schema["anyOf"] if part.get("type") != "null")
    if "$ref" in schema:
        return f"a {schema['$ref'].rpartition('/')[2].lower()}"
    kind = str(schema.get("type", "any value"))
    if kind == "array":
        return f"list; each: {describe_values(schema.get('items', {}))}"
    words = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}
    bounds = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    limits = [f"{bound} {schema[key]}" for key, bound in bounds.items() if key in schema]
    return ", ".join([words.get(kind, kind), *limits])


def _meanings(model: type[BaseModel]) -> dict[str, str]:
    """What each attribute means: the section `Attributes:` of the docstrings of a class and its bases."""
    meanings: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if base is not BaseModel and issubclass(base, BaseModel):
            meanings |= _attributes(inspect.cleandoc(base.__doc__ or ""))
    return meanings


def _attributes(docstring: str) -> dict[str, str]:
    section = re.search(r"^Attributes:\n((?:    .*\n?|\n)+)", docstring, re.MULTILINE)
    if section is None:
        return {}
    entries = re.findall(r"^    (\w+): (.*(?:\n     .*)*)", section[1], re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}".rstrip(".")


def _link(paper: str) -> str:
    """Turn `decisions#anchor` into a link to the page of decisions."""
    return re.sub(r"decisions#([\w-]+)", rf"[decision]({DECISIONS}#\1)", paper)


def write_tables(page: str) -> str:
    """The page with the table after each mark `<!-- settings: NAME -->` written again, up to `<!-- end -->`."""
    found = settings()
    mark = re.compile(r"(<!-- settings: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)
    return mark.sub(lambda match: match[1] + _markdown(found["" if match[2] == "study" else match[2]]) + match[3], page)


def _markdown(entries: Iterable[Setting]) -> str:
    lines = ["", "| key | values | default | meaning | paper |", "| --- | --- | --- | --- | --- |"]
    for entry in entries:
        default = f"`{entry.default}`" if entry.default else "–"
        cells = (f"`{entry.name}`", entry.values, default, entry.meaning, entry.paper or "–")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n\n"


HEAD = """\
# A study of sersearch: the search spaces, and the settings that differ from the paper's.
# See what it would train:  sersearch plan {file}
# Train it:                 sersearch search {file} --store STORE --run RUN
# A line such as #seeds = 1 shows a default; delete its # and change the value.

name = "{name}"

# The store that `sersearch features` built; the path is relative to this file. Or give --store.
#store = "stores/mine"

# Each entry is a table, a file beside this one, or one of the paper's spaces, which come with sersearch:
{spaces}
# "3:8" is every whole number from 3 to 8; [2, 3] is a choice.
spaces = [
    {{ name = "ldnn", model = "LDNN", features = ["log-mels", "mfccs"] }},
    {{ name = "fst", model = "FST-CLDNN", w1 = "3:8", w2 = [2, 3] }},
    # "t-cldnn-log-mels",
]
"""
WIDTH = 100
FOLDS = (
    "folds = 6 in place of train, validation and test lets every speaker test once; docs/partitions.md has it, and "
    "splits by name, from a file or from a column of the manifest."
)
EXAMPLES = {"trials": "50", "window": "16"}
"""Values of settings without a default; others of these are names, which docs/study.md explains."""


def new_study(file: str, name: str, spaces: Iterable[str]) -> str:
    """A commented study that can be searched as it is, with the default of every setting.

    Args:
        file: the study's file, as its comments name it.
        name: of the study.
        spaces: names of the spaces that come with the package.
    """
    found = settings()
    lines = [HEAD.format(file=file, name=name, spaces="\n".join(_comment(", ".join(spaces))))]
    lines += _commented(setting for setting in found[""] if setting.name == "seeds")
    for table in (name for name in Study.model_fields if name in found):
        if table == "hypothesis":
            # A table without an order of models is no hypothesis.
            continue
        lines += ["", f"[{table}]"]
        if table == "partition":
            lines += _comment(FOLDS)
        lines += _commented(setting for setting in found[table] if _has_example(setting))
    return "\n".join(lines) + "\n"


def write_new_study(path: Path) -> None:
    """Write a new study to a file.

    Raises:
        InputError: the file exists already, its folder does not, or its name does not end with .toml.
    """
    if path.suffix != ".toml":
        raise InputError(f"{path}: is no name of a study; end it with .toml, as in mine.toml")
    content = new_study(str(path), path.stem, shipped_spaces())
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(content)
    except FileExistsError:
        raise InputError(f"{path}: exists already and is not overwritten; choose another name") from None
    except FileNotFoundError:
        raise InputError(f"{path.parent}: no such folder; make it first") from None


def _has_example(setting: Setting) -> bool:
    return bool(setting.default) or setting.name in EXAMPLES


def _commented(entries: Iterable[Setting]) -> Iterator[str]:
    for entry in entries:
        yield from _comment(f"{entry.meaning}: {entry.values}")
        yield f"#{entry.name} = {entry.default or EXAMPLES[entry.name]}"


def _comment(words: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(words, WIDTH, break_on_hyphens=False)]


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(write_tables(path.read_text(encoding="utf-8")), encoding="utf-8")
