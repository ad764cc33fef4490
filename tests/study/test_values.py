"""Studies with values that no search can use: refused in one line and at once, whatever the key."""

import json
import math
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sersearch.errors import InputError
from sersearch.study.configuration import known_models
from sersearch.study.fold import Shares
from sersearch.study.space import Top
from sersearch.study.study import Resources, Search, Study, load_study
from sersearch.study.values import MOST_NESTED, fault

SPACE = '{ name = "s", model = "S-CLDNN", h1 = [5, 22], h2 = 3 }'
SAMPLED = '[search]\nsampler = "random"\ntrials = 3\n'
MEMORY_BYTES = 4 << 30


def study(before: str = "", after: str = "", spaces: str = SPACE) -> str:
    return f"{before}\nspaces = [{spaces}]\n{after}"


def grid(**ranges: str) -> str:
    return "{ name = 's', model = 'ST-CLDNN', " + ", ".join(f"{name} = {text}" for name, text in ranges.items()) + " }"


REFUSED = {
    "infinity": (study(after="[training]\nlearning_rate = inf"), "learning_rate: inf was given; write a finite"),
    "nan": (study(after="[resources]\ncpus = nan"), "cpus: nan was given; write a finite number"),
    "true for a number": (study(after="[training]\nepochs = true"), "epochs = True was given, but epochs is neither"),
    "true for seeds": (study("seeds = true"), "seeds = True was given, but seeds is neither true nor false"),
    "true among numbers": (study(after="[training]\ndense = [8, true]"), "dense = [8, True] was given, but dense is"),
    "true in a space": (study(spaces=grid(h1="[true, 5]", h2="3", w1="3", w2="2")), "h1 = [True, 5] was given, but h1"),
    "true in an interval": (
        study(spaces="{ name = 's', model = 'SVM', features = 'x', C = { log = [true, 3] } }", after=SAMPLED),
        "log = [True, 3] is not an interval",
    ),
    "deep lists": ("spaces = " + "[" * 100_000 + "]" * 100_000, "nested too deep"),
    "rather deep lists": ("spaces = " + "[" * 50 + "]" * 50, f"nested more than {MOST_NESTED} deep"),
    "deep tables": ("spaces = " + "{a = " * 10_000 + "1" + "}" * 10_000, "nested too deep"),
    "many seeds": (study("seeds = 1_000_000_000"), "seeds: 1000000000 was given"),
    "many trials": (study("seeds = 60_000"), "seeds = 60,000 of all its configurations are 120,000 trials"),
    "many digits": (study(f"seeds = {'9' * 5000}"), "a number of more than 64 bits was given"),
    "many bits": (study(f"seeds = {2**63}"), "a number of more than 64 bits was given"),
    "a wide range": (study(spaces=grid(h1="'4:100000000'", h2="3", w1="3", w2="2")), "has 99,999,997 values"),
    "a range beyond 64 bits": (study(spaces=grid(h1=f"'1:{'9' * 30}'", h2="3", w1="3", w2="2")), "more than 64 bits"),
    "a long list": (study(after=f"[training]\ndense = [{'8,' * 20_000}]"), "a list or table of 20,000 values"),
    "many combinations": (
        study(spaces=grid(h1="'1:40'", h2="'1:40'", w1="'1:16'", w2="'1:40'")),
        "its ranges have 1,024,000 combinations, and a grid may have 100,000",
    ),
    "few of many can be built": (
        study(spaces=grid(h1="'1:40'", h2="'30:999'", w1="'1:16'", w2="'1:4'"), after=SAMPLED),
        "space s: ",
    ),
    "an endless interval": (
        study(spaces=grid(h1="{ linear = [1, inf] }", h2="3", w1="3", w2="2"), after=SAMPLED),
        "inf was given; write a finite number",
    ),
    "a wide interval": (
        study(spaces=grid(h1="{ linear = [1, 1e300] }", h2="3", w1="3", w2="2"), after=SAMPLED),
        "its interval goes beyond 2^53",
    ),
    "a large sample": (study(after='[search]\nsampler = "random"\ntrials = 1_000_000_000'), "less than or equal to"),
    "the best of itself": (
        study(spaces="{ name = 's', model = 'ST-CLDNN', h1 = 5, h2 = 3, w1 = 3, w2 = 2, top = { h = 's', w = 's' } }"),
        "takes its top k from s, which builds on others itself",
    ),
    "the best kernels of none": (
        study(spaces=SPACE + ", { name = 't', model = 'ST-CLDNN', h1 = 5, h2 = 3, w1 = 3, w2 = 2, "
              "top = { h = 's', w = 's' } }"),
        "takes its top k of w1 and w2 from s, which does not name them",
    ),
    "an empty name": (study('name = ""'), "name: '' was given"),
    "a long name": (study(f'name = "{"a" * 300}"'), "name: 'aaa"),
    "a very long text": (study(f'name = "{"a" * 3000}"'), "a text of 3,000 characters was given"),
    "a NUL in a path": (study('store = "a\\u0000b"'), "has a NUL character"),
    "a number for a path": (study("store = 3"), "store: 3 was given"),
    "a number for files": (study("systems = 3"), "systems = 3 is no list of files"),
    "a long path": (study(spaces='"' + "a" * 900 + '"'), "unknown space"),
    "UTF-16": ("name".encode("utf-16"), "is not UTF-8"),
    "a long file": ("# " + "x" * 2_000_000, "is longer than 1,000,000 bytes"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_what_no_search_can_use_is_refused(tmp_path: Path, content: str | bytes, reason: str) -> None:
    path = tmp_path / "study.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as refused:
        load_study(path)
    assert reason in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    assert len(str(refused.value)) < 500 + len(str(path))


def make_pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


SOURCES = {
    "a pipe": make_pipe,
    "a folder": lambda path: path.mkdir() or path,
    "a device": lambda path: Path("/dev/zero"),
    "a link to a device": lambda path: path.symlink_to("/dev/zero") or path,
    "a link to itself": lambda path: path.symlink_to(path) or path,
    "nothing": lambda path: path,
    "a folder within a file": lambda path: path.write_text("") or path / "x",
}


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES.keys())
def test_what_is_no_file_is_refused(tmp_path: Path, make: Any) -> None:
    path = make(tmp_path / "x.toml")
    with pytest.raises(InputError, match=r"is not a file|is a folder|no such file|can't be read|unknown study"):
        load_study(path)
    if path.parent == tmp_path:
        (tmp_path / "study.toml").write_text(study(spaces='"x"'))
        with pytest.raises(InputError, match=r"is not a file|unknown space x|can't be read"):
            load_study(tmp_path / "study.toml")


def limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


@pytest.mark.slow("each study is read by a process of its own")
@pytest.mark.parametrize(
    "name", ["deep lists", "many combinations", "a wide range", "many seeds", "few of many can be built"]
)
def test_the_command_says_so_with_little_memory_and_exits_with_2(tmp_path: Path, name: str) -> None:
    (tmp_path / "study.toml").write_text(str(REFUSED[name][0]))
    done = plan(tmp_path / "study.toml", preexec_fn=limit_memory)
    assert done.returncode == 2, done.stderr
    assert done.stdout == b""
    assert done.stderr.count(b"\n") == 1
    assert REFUSED[name][1] in done.stderr.decode()


@pytest.mark.slow("it reads a file of a terabyte, if it is not refused")
def test_a_huge_file_is_refused_at_once(tmp_path: Path) -> None:
    with (tmp_path / "study.toml").open("wb") as file:
        file.truncate(10**12)
    done = plan(tmp_path / "study.toml", preexec_fn=limit_memory)
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)


ASCII = {
    "output": {"PYTHONIOENCODING": "ascii"},
    "locale": {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}


@pytest.mark.slow("each command is a process of its own")
@pytest.mark.parametrize("environment", ASCII.values(), ids=ASCII.keys())
def test_an_ascii_terminal_shows_escapes(tmp_path: Path, environment: dict[str, str]) -> None:
    name = "стенд–1"
    (tmp_path / "study.toml").write_text(study(spaces=SPACE.replace('"s"', f'"{name}"')))
    table = plan(tmp_path / "study.toml", environment=environment)
    assert (table.returncode, table.stderr) == (0, b"")
    assert name.encode("ascii", "backslashreplace") in table.stdout
    facts = plan(tmp_path / "study.toml", "--format", "json", environment=environment)
    assert json.loads(facts.stdout.decode("ascii"))["spaces"][0]["name"] == name
    (tmp_path / f"{name}.toml").write_text(study())
    assert plan(tmp_path / f"{name}.toml", environment=environment).returncode == 0
    (tmp_path / f"{name}.toml").write_text("x = 1")
    refused = plan(tmp_path / f"{name}.toml", environment=environment)
    assert refused.returncode == 2
    assert refused.stderr.isascii()
    assert refused.stderr.count(b"\n") == 1


def plan(
    path: Path, *words: str, environment: dict[str, str] | None = None, preexec_fn: Any = None
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "sersearch", "plan", str(path), *words],
        capture_output=True,
        env=os.environ | (environment or {}),
        preexec_fn=preexec_fn,
        timeout=120,
        check=False,
    )


# Any key of a study, in its table; those of a space are the parameters of all models.
KEYS = [
    *(("", name) for name in Study.model_fields),
    *(("partition", name) for name in Shares.model_fields),
    *(("search", name) for name in Search.model_fields),
    *(("resources", name) for name in Resources.model_fields),
    *(("top", name) for name in Top.model_fields),
    *(("features", name) for kind in known_models().values() for name in kind.feature_settings),
    *(("training", name) for kind in known_models().values() for name in kind.training_settings),
    *(("space", name) for name in sorted({name for kind in known_models().values() for name in kind.model_fields})),
]
scalars = (
    st.integers()
    | st.integers(-3, 60)
    | st.sampled_from([10**9, 2**31, 2**53, 2**63, 10**30, -1])
    | st.floats()
    | st.booleans()
    | st.text(max_size=8)
    | st.sampled_from(["M", "3:8", "1:100000000", "8:3", "s", "S-CLDNN", "SVM", "mfccs", "loso", "tpe", "../x", "\0"])
    | st.dates()
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["linear", "log", "k", "h", "w", "name", "model", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


def as_toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(character):08X}" for character in value) + '"'
    if isinstance(value, list):
        return f"[{', '.join(map(as_toml, value))}]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{as_toml(name)} = {as_toml(item)}" for name, item in value.items()) + " }"
    return str(value)


@given(st.sampled_from(KEYS), values, st.sampled_from(["grid", "random"]))
@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(("search", "trials"), 10**9, "random")
@example(("space", "h1"), {"linear": [1, 2**52]}, "random")
def test_any_value_of_any_key_is_taken_or_refused_in_one_line(
    tmp_path: Path, key: tuple[str, str], value: Any, sampler: str
) -> None:
    table, name = key
    space: dict[str, Any] = {"name": "s", "model": "S-CLDNN", "h1": [5, 22], "h2": 3}
    content: dict[str, Any] = {"": {"spaces": [space]}, "search": {"sampler": sampler}}
    if sampler == "random":
        content["search"]["trials"] = 3
    if table == "space":
        space[name] = value
    elif table == "top":
        space["top"] = {"k": 1, "h": "s", "w": "s", name: value}
    else:
        content.setdefault(table, {})[name] = value
    lines = [f"{name} = {as_toml(item)}" for name, item in content.pop("").items()]
    for heading, items in content.items():
        lines += [f"[{heading}]", *(f"{name} = {as_toml(item)}" for name, item in items.items())]
    path = tmp_path / "study.toml"
    path.write_text("\n".join(lines))
    try:
        loaded = load_study(path)
    except InputError as error:
        refusal = str(error)
    else:
        refusal = "."
        # What is taken can be written down and read again, as a run does.
        assert Study.model_validate_json(loaded.model_dump_json()) == loaded
    assert len(refusal.splitlines()) == 1
    assert len(refusal) < 700 + len(str(path))


@given(values)
def test_a_fault_is_found_wherever_it_is(value: Any) -> None:
    assert bool(fault([[1, {"x": value}]])) == bool(fault(value))
