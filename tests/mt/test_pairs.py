from collections.abc import Callable
from pathlib import Path

import pytest

from xlst_ray.config import load
from xlst_ray.demo.options import DemoOptions
from xlst_ray.errors import ConfigError, DataError
from xlst_ray.mt.pairs import PairsOptions, read_pairs

PO_HEADER = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n\n'


def write_po(path: Path, messages: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    entries = (f'msgid "{key}"\nmsgstr "{text}"\n' for key, text in messages.items())
    path.write_text(PO_HEADER + "\n".join(entries), encoding="utf-8")


def numbered(path: Path, count: int) -> PairsOptions:
    lines = "".join(f"věta {number}\tzin {number}\n" for number in range(count))
    path.write_text(f"cs\tnl\n{lines}", encoding="utf-8")
    return PairsOptions(kind="tsv", path=str(path))


def test_pairs_are_distinct_tidy_and_within_the_word_limits(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text("cs\tnl\na  b\tc d\na b\tc d\na b\tc e\na\tc d\na b c\tc d\na b\tc d e f\n", encoding="utf-8")
    options = PairsOptions(kind="tsv", path=str(path), min_words=2, max_words=3)
    assert sorted(read_pairs(options, "cs", "nl")) == [("a b", "c d"), ("a b", "c e"), ("a b c", "c d")]


@pytest.mark.parametrize(
    ("rows", "hint"),
    [("", "nothing in it has text in both cs and nl"), ("ano\tja\nne\tnee\n", "it has 2 shorter or longer ones")],
)
def test_no_pairs_at_all_are_told_from_none_of_the_right_length(tmp_path: Path, rows: str, hint: str) -> None:
    (tmp_path / "t.tsv").write_text(f"cs\tnl\n{rows}")
    with pytest.raises(DataError, match=f"has no cs-nl sentence pairs of 2 to 40 words\n  -> {hint}"):
        list(read_pairs(PairsOptions(kind="tsv", path=str(tmp_path / "t.tsv"), min_words=2), "cs", "nl"))


def test_a_smaller_limit_is_a_part_of_a_larger_one(tmp_path: Path) -> None:
    options = numbered(tmp_path / "t.tsv", 200)
    everything = list(read_pairs(options, "cs", "nl"))
    assert len(everything) == 200
    assert everything != sorted(everything)
    assert list(read_pairs(options.replace(limit=20), "cs", "nl")) == everything[:20]
    assert list(read_pairs(options.replace(seed=1), "cs", "nl")) != everything


def test_the_order_does_not_depend_on_the_order_of_the_file(tmp_path: Path) -> None:
    options = numbered(tmp_path / "t.tsv", 50)
    before = list(read_pairs(options, "cs", "nl"))
    header, *lines = (tmp_path / "t.tsv").read_text(encoding="utf-8").splitlines()
    (tmp_path / "t.tsv").write_text("\n".join([header, *reversed(lines)]), encoding="utf-8")
    assert list(read_pairs(options, "cs", "nl")) == before


def test_shards_give_transcripts_with_their_translations(write_shards: Callable[..., str]) -> None:
    folder = write_shards([("ano", {"nl": "ja", "de": "ja"}), ("ne", {"de": "nein"})], [("možná", {"nl": "misschien"})])
    write_shards([("test", {"nl": "proef"})], split="test")
    options = PairsOptions(kind="shards", path=folder)
    assert sorted(read_pairs(options, "cs", "nl")) == [("ano", "ja"), ("možná", "misschien")]
    with pytest.raises(ConfigError, match="holds speech in cs, not in pl"):
        list(read_pairs(options, "pl", "nl"))
    with pytest.raises(DataError, match="no cs-sv sentence pairs"):
        list(read_pairs(options, "cs", "sv"))


def test_catalogues_are_joined_by_message(tmp_path: Path) -> None:
    for program, folder in (("one", "usr/share/locale"), ("two", "translations")):
        write_po(
            tmp_path / folder / "cs" / "LC_MESSAGES" / f"{program}.po",
            {"Open": f"Otevřít {program}", "Save %s": "Uložit %s", "GIMP": "GIMP", "Only here": "Jen tady"},
        )
    write_po(
        tmp_path / "usr/share/locale/nl/LC_MESSAGES/one.po",
        {"Open": "_Openen", "Save %s": "%s opslaan", "GIMP": "GIMP", "Only there": "Alleen daar"},
    )
    write_po(tmp_path / "translations/nl/LC_MESSAGES/two.po", {"Open": "Opendoen"})
    options = PairsOptions(kind="gettext", path=str(tmp_path))
    assert sorted(read_pairs(options, "cs", "nl")) == [("Otevřít one", "Openen"), ("Otevřít two", "Opendoen")]
    assert sorted(read_pairs(options, "en", "nl")) == [
        ("Only there", "Alleen daar"),
        ("Open", "Opendoen"),
        ("Open", "Openen"),
    ]
    with pytest.raises(ConfigError, match=r"no catalogues of the language et(.|\n)*cs, nl"):
        list(read_pairs(options, "cs", "et"))


def test_the_demo_gives_its_grammar(tmp_path: Path) -> None:
    options = PairsOptions(kind="demo", demo=DemoOptions(mt_pairs=40))
    pairs = list(read_pairs(options, "en", "fi"))
    assert len(set(pairs)) == len(pairs) == 40
    with pytest.raises(ConfigError, match="not fi and en"):
        list(read_pairs(options, "fi", "en"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["kind=tsv"], "kind tsv needs a path"),
        (["kind=demo", "path=x"], "takes no path"),
        (["path=x", "min_words=5", "max_words=4"], "min_words 5 is above max_words 4"),
    ],
)
def test_contradictions_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(PairsOptions, overrides=overrides)


def test_a_path_is_absolute_but_for_the_shards_of_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = [load(PairsOptions, overrides=[f"path={path}"]).path for path in ("pairs", "s3://bucket/pairs", "source")]
    assert found == [f"{tmp_path}/pairs", "s3://bucket/pairs", "source"]
