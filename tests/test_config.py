"""YAML, overrides and defaults into sections; what cannot be meant is refused with the next step."""

import json
import os
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from xlst_ray.config import LanguageCode, Section, Seed, Url, describe, fields, load, option
from xlst_ray.errors import ConfigError
from xlst_ray.plain_yaml import parse_yaml


class Train(Section):
    lr: float = option(1e-3, "learning rate", gt=0)
    updates: int = option(100, "steps", unit="updates", ge=1)
    bf16: bool = option(False, "half precision")


class Engine(Section):
    kind: Literal["table", "model"] = option("table", "what translates")
    train: Train = option(Train, "its training")


class Job(Section):
    name: str = option(..., "name of the run")
    out: Url = option("runs", "folder")
    lang: LanguageCode = option("en", "language")
    seeds: tuple[Seed, ...] = option((1,), "seeds", min_length=1)
    limit: int | None = option(None, "rows", ge=1)
    train: Train = option(Train, "optimisation")
    engines: dict[str, Engine] = option({}, "engines by name")


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(*overrides: str, file: Path | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(Job, file, overrides)
    return str(caught.value)


def test_file_and_overrides_the_last_one_winning(tmp_path: Path) -> None:
    file = write(tmp_path / "c.yaml", "name: é\ntrain: {lr: 1e-2, updates: 7}\nengines: {a: {kind: model}}\n")
    job = load(Job, file, ["train.lr=0.5", "train.lr=0.25", "engines.a.train.updates=3", "seeds=[2, 3]"])
    assert job.name == "é"
    assert (job.train.lr, job.train.updates, job.train.bf16) == (0.25, 7, False)
    assert job.seeds == (2, 3)
    assert (job.engines["a"].kind, job.engines["a"].train.updates, job.engines["a"].train.lr) == ("model", 3, 1e-3)


def test_sections_are_frozen_and_replaced_with_the_same_checks() -> None:
    train = Train()
    with pytest.raises(ValidationError):
        train.lr = 1.0
    assert train.replace(lr=2.0) == Train(lr=2.0)
    with pytest.raises(ValidationError):
        train.replace(lr=-1.0)
    with pytest.raises(ValidationError):
        train.replace(lrr=1.0)


def test_values_at_dotted_keys_are_read_and_replaced() -> None:
    class Plan(Section):
        freeze: dict[str, int] = option({}, "pattern -> update")
        job: Job = option(..., "the job")

    plan = Plan(job=Job(name="x", engines={"a": Engine(kind="model")}))
    changed = plan.with_keys({"freeze.encoder.layers.*": 5, "job.train.lr": 2.0, "job.engines.a.kind": "table"}, "here")
    assert changed.freeze == {"encoder.layers.*": 5}
    assert (changed.job.train.lr, changed.job.engines["a"].kind, changed.job.name) == (2.0, "table", "x")
    assert changed.value_at("freeze.encoder.layers.*") == 5
    assert plan.value_at("freeze.encoder.layers.*") is None
    assert changed.with_keys({"freeze": {"decoder.*": 1}}, "here").freeze == {"decoder.*": 1}  # replaced, not merged
    with pytest.raises(ConfigError, match=r"here: unknown key job.train.lrr\n  -> did you mean job.train.lr\?"):
        plan.with_keys({"job.train.lrr": 1.0}, "here")
    with pytest.raises(ConfigError, match=r"here: job.train.lr: "):
        plan.with_keys({"job.train.lr": -1.0}, "here")
    with pytest.raises(ConfigError, match=r"unknown key job\.nmae"):
        plan.value_at("job.nmae")
    overridden = load(Plan, None, ["freeze.encoder.layers.*=7", "job.name=y"])
    assert overridden.freeze == {"encoder.layers.*": 7}


@settings(deadline=None)
@given(
    lr=st.floats(min_value=1e-300, max_value=1e300),
    name=st.text(st.characters(codec="utf-8"), max_size=20),
    seeds=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=3),
)
def test_what_is_resolved_is_read_back_the_same(lr: float, name: str, seeds: list[int]) -> None:
    job = Job(name=name, train=Train(lr=lr), seeds=tuple(seeds), engines={"a": Engine(kind="model")})
    assert Job.model_validate(json.loads(json.dumps(job.resolved()))) == job


@pytest.mark.parametrize("path", ["/a b/ä #1", "/x#y", "/100%25 [z] {y}", "/it's: no", " /a "])
def test_a_path_of_any_name_is_taken_whole(path: str) -> None:
    quoted = json.dumps(path.strip())  # as it must be written where YAML would take it for something else
    for written in (path if ": " not in path else quoted, quoted):
        assert load(Job, None, [f"name={written}"]).name == path.strip()


@pytest.mark.parametrize(
    ("override", "near"),
    [
        ("nmae=x", "name"),
        ("train.updatess=3", "train.updates"),
        ("lr=3", "train.lr"),  # a leaf whose section was forgotten
        ("engines.a.kindd=table", "engines.a.kind"),
        ("engines.a.train.ls=1", "engines.a.train.lr"),
    ],
)
def test_a_misspelt_key_is_answered_with_the_right_one(override: str, near: str) -> None:
    message = refused("name=x", override)
    assert f"unknown key {override.partition('=')[0]}" in message
    assert f"did you mean {near}?" in message


@pytest.mark.parametrize("override", ["engines.a.b.c={kind: table}", "engines.a.b.c.kind=table"])
def test_an_entry_whose_name_has_dots_is_told_how_to_be_written(override: str) -> None:
    braces = "engines={a.b.c: {kind: table}}"
    message = refused("name=x", override)
    assert (
        f"unknown key engines.a.b.c\n  -> a name with dots stands in braces: '{braces.replace('table', '...')}'"
        in message
    )
    assert load(Job, None, ["name=x", braces]).engines == {"a.b.c": Engine(kind="table")}


def test_a_key_like_no_other_is_answered_with_all() -> None:
    assert "known here: name, out, lang, seeds, limit, train, engines" in refused("zzzzzz=1")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("seeds=1", "seeds: must be a list"),
        ("seeds=[1, x]", "seeds.1: Input should be a valid integer"),
        ("seeds=[]", "seeds: "),
        ("seeds=[-1]", "seeds.0: Input should be greater than or equal to 0 (given -1)"),
        ("seeds=[4294967296]", "seeds.0: "),
        ("train.lr=fast", "train.lr: Input should be a valid number"),
        ("train.lr=inf", "train.lr: Input should be a finite number"),
        ("train.lr=nan", "train.lr: "),
        ("train.lr=0", "train.lr: Input should be greater than 0 (given 0)"),
        ("train.updates=1.5", "train.updates: "),
        ("train=3", "train must be a mapping of keys\n  -> write train.<key>=value"),
        ("train=", "train must be a mapping of keys"),
        ("engines=3", "engines: must be a mapping of keys"),
        ("engines.kind=table", "engines.kind is no entry\n  -> entries have names: write engines.<name>.kind=..."),
        ("engines.a=3", "engines.a must be a mapping of keys"),
        (
            "engines.a.kind=tabel",
            "engines.a.kind: Input should be 'table' or 'model' (given 'tabel'): did you mean table?",
        ),
        ("engines.a.kind=mdl", "(given 'mdl'): did you mean model?"),
        ("engines.a.kind=7", "Input should be 'table' or 'model' (given 7)\n"),
        ("name=7", "name: must be text, in quotes"),
        ("out=''", "out: must not be empty"),
        ("lang=english", "did you mean en (English)?"),
        ("lang=EN", "'EN' is not a language code"),
        ("name", "cannot read the override 'name'\n  -> write key.sub=value"),
        ("name=[", "cannot read the value of 'name=['"),
        ("=3", "unknown key"),
        ("name=\udcff", "cannot read the value"),  # a byte of the command line that is not UTF-8
    ],
)
def test_a_wrong_value_is_refused_with_its_key(override: str, says: str) -> None:
    assert says in refused("name=x", override)


def test_a_wrong_entry_of_a_list_is_said_once() -> None:
    assert refused("name=x", "seeds=[x]").count("seeds") == 1


def test_several_errors_are_said_together_and_what_is_required() -> None:
    message = refused("train.lr=-1", "train.updates=0")
    assert "name: is required" in message
    assert "train.lr" in message
    assert "train.updates" in message
    assert "--help" in message


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("name: x\nname: y\n", "the key 'name' stands twice (line 2, column 1)"),
        ("train:\n  lr: 1\n  updates: 2\n  lr: 3\n", "the key 'lr' stands twice (line 4, column 3)"),
        ("[name, x]", "must be a mapping of keys"),
        ("name", "must be a mapping of keys"),
        ("name: [x\n", "is not YAML"),
        ("name: x\n\tseeds: [1]\n", "(line 2, column 1)"),
        ("a: b: c", "is not YAML: mapping values are not allowed here (line 1, column 5)"),
        ("name: x\n---\nname: y\n", "is not YAML"),
        ("name: !!python/object/apply:os.getpid []", "could not determine a constructor"),
        (b"name: \xe9\n", "is not UTF-8 (byte 6)"),
        (b"\x00", "is not YAML"),
        ("name: x\ntrain:\n", "train must be a mapping of keys"),
        ("1: 2", "unknown key 1"),
        ("[" * 5000, "is not YAML"),
    ],
)
def test_a_bad_file_is_refused_with_its_name(tmp_path: Path, content: str | bytes, says: str) -> None:
    file = write(tmp_path / "c.yaml", content)
    message = refused(file=file)
    assert message.startswith(f"{file}: ")
    assert says in message


def test_no_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert "No such file" in refused(file=tmp_path / "nothing.yaml")
    assert "Is a directory" in refused(file=tmp_path)


def test_an_empty_file_and_one_with_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    assert load(Job, write(tmp_path / "a.yaml", "# nothing yet\n"), ["name=x"]).name == "x"
    assert load(Job, write(tmp_path / "b.yaml", "\ufeffname: y\n")).name == "y"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("yes", "yes"), ("on", "on"), ("true", True), ("False", False), ("~", None), ("", None),
        ("1e-3", 1e-3), ("1.5", 1.5), (".5", 0.5), ("1.", 1.0), ("-3", -3), ("0", 0), ("010", "010"), ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"), ("1_000", "1_000"), ("0x10", "0x10"), ("e5", "e5"), ("1e", "1e"), ("-", "-"),
        ("'1'", "1"), ("[1, no]", [1, "no"]), ("{a: null}", {"a": None}), (".", "."), ("+", "+"),
    ],
)  # fmt: skip
def test_plain_values_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    if text == "-":  # an empty list entry
        value = [None]
    assert parse_yaml(text) == value
    assert type(parse_yaml(text)) is type(value)


TEXT = st.text(st.characters(max_codepoint=0xD7FF), max_size=10)  # JSON escapes further ones in pairs, YAML does not
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(JSON)
def test_every_json_value_is_yaml(value: Any) -> None:
    assert parse_yaml(json.dumps(value)) == value


def test_anchors_and_merges(tmp_path: Path) -> None:
    text = "a: {train: &t {lr: 1, updates: 2}}\nb: {train: &u {<<: *t, lr: 3}}\nc: {<<: *u, updates: 4}\n"
    assert parse_yaml(text) == yaml.safe_load(text)
    assert parse_yaml(text)["c"] == {"lr": 3, "updates": 4}


def test_urls_are_the_same_seen_from_every_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    assert Job(name="x").out == f"{os.getcwd()}/runs"
    assert Job(name="x", out="a/../b/").out == f"{os.getcwd()}/b"
    assert Job(name="x", out="~/data").out == "/home/someone/data"
    assert Job(name="x", out="s3://bucket/a/../b").out == "s3://bucket/a/../b"


def test_norwegian_is_a_language() -> None:
    assert load(Job, None, ["name=x", "lang=no"]).lang == "no"


def test_help_names_every_field_with_type_unit_default_and_meaning() -> None:
    text = describe(Job)
    assert "  name : str, required\n      name of the run" in text
    assert "  train.updates : int [updates], default 100\n      steps" in text
    assert "  limit : int|none, default null" in text
    assert "  seeds : tuple[int, ...], default [1]" in text
    assert '  engines.<name>.kind : table|model, default "table"' in text
    assert "  engines.<name>.train.updates : int [updates], default 100" in text
    assert [key for key, _ in fields(Job)] == [
        "name", "out", "lang", "seeds", "limit", "train.lr", "train.updates", "train.bf16", "engines"
    ]  # fmt: skip


class Inner(Section):
    size: int = option(3, "a size")
    later: int = option(1, "came later", added=True)


class Outer(Section):
    inner: Inner = option(Inner, "a part")
    whole: Inner = option(Inner, "came later as a whole", added=True)
    names: tuple[str, ...] = option(("a",), "names")


def test_what_came_later_is_part_of_the_identity_where_it_is_set() -> None:
    assert Outer().identity() == {"inner": {"size": 3}, "names": ["a"]}
    assert Outer(inner=Inner(later=2)).identity() == {"inner": {"size": 3, "later": 2}, "names": ["a"]}
    assert Outer(whole=Inner(size=4)).identity()["whole"] == {"size": 4}
    assert Outer().resolved()["inner"] == {"size": 3, "later": 1}


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("s3://", "names no bucket: write s3://bucket/folder"),
        ("s3:///", "names no bucket"),
        ("gs:/bucket/folder", "has one slash, which is a folder of the name gs: : write gs://bucket/folder"),
    ],
)
def test_a_url_without_a_bucket_is_no_local_folder(url: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load(Place, None, [f"out={url}"])


def test_a_path_is_absolute_and_a_url_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"a:b/c": f"{tmp_path}/a:b/c", "s3://bucket": "s3://bucket", "file:///data": "file:///data"}
    for url, expected in given.items():
        assert load(Place, None, [f"out='{url}'"]).out == expected


class Place(Section):
    size: int = option(1, "how large")
    out: Url = option(..., "where it goes")


def test_help_begins_with_what_is_required() -> None:
    assert [line.split()[0] for line in describe(Place).splitlines()[::2]] == ["out", "size"]
