"""A miniature of the game's folder; nothing of the game itself."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from xlst_ray.corpora.corpus import Corpus
from xlst_ray.corpora.fish_fillets import GAME, Line, read_script
from xlst_ray.corpora.open import open_corpus
from xlst_ray.corpora.options import CorpusOptions
from xlst_ray.errors import DataError
from xlst_ray.shards.schema import SPLITS, Utterance

SCENES = [f"scene{number}" for number in range(40)]


def write_script(path: Path, lines: dict[str, tuple[str, str, str | None]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    calls = []
    for name, (font, english, text) in lines.items():
        calls.append(f'dialogId("{name}", "{font}", "{english}")\n')
        calls.append("" if text is None else f'dialogStr("{text}")\n\n')
    path.write_text("\n".join(calls), encoding="utf-8")


def write_clip(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.sin(np.arange(2205) / 20), 22_050, format="OGG", subtype="VORBIS")


@pytest.fixture(scope="module")
def game(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty scenes of three lines, of which two have a clip in each language."""
    unpacked = tmp_path_factory.mktemp("unpacked")
    root = unpacked / GAME
    for scene in SCENES:
        texts: dict[str, list[str | None]] = {
            "en": [None, None, None],
            "cs": [f"Ryba z {scene}.", "Kde je?", "Tady."],
            "nl": [f"Vis uit {scene}.", "Waar is hij?", ""],
        }
        for lang, (one, two, three) in texts.items():
            lines = {
                "ryb-m": ("font_small", f"Fish of {scene}.", one),
                "ryb-v": ("font_big", "Where is it?", two),
                "duch": ("font_elk", "Here.", three),
            }
            write_script(root / "script" / scene / f"dialogs_{lang}.lua", lines)
        for lang, clips in {"cs": ("ryb-m", "duch"), "nl": ("ryb-m", "ryb-v", "duch")}.items():
            for name in clips:
                write_clip(root / "sound" / scene / lang / f"{name}.ogg")
    (root / "script" / "share").mkdir()
    (root / "script" / "share" / "level_start.lua").write_text('dialogLoad("script/"..codename.."/")\n')
    return unpacked


def reader(path: Path, lang: str) -> Corpus:
    return open_corpus(CorpusOptions(reader="fish_fillets", path=str(path), lang=lang))


def said(corpus: Corpus, split: str) -> list[Utterance]:
    return [row.utterance for row in corpus.rows(split) if row.utterance is not None]


def rows_of(corpus: Corpus) -> list[Utterance]:
    return [row for split in corpus.splits() for row in said(corpus, split)]


def test_rows_are_the_lines_with_a_text_and_a_clip(game: Path) -> None:
    czech, dutch = rows_of(reader(game, "cs")), rows_of(reader(game, "nl"))
    assert {row.id for row in czech} == {f"{scene}/{name}" for scene in SCENES for name in ("ryb-m", "duch")}
    assert {row.id for row in dutch} == {f"{scene}/{name}" for scene in SCENES for name in ("ryb-m", "ryb-v")}
    assert len(czech) == len(dutch) == 80
    assert all(soundfile.info(row.audio).frames == 2205 for row in czech)


def test_a_row_has_its_scene_its_speaker_and_all_translations(game: Path) -> None:
    rows = {row.id: row for row in rows_of(reader(game, "cs"))}
    fish, ghost = rows["scene3/ryb-m"], rows["scene3/duch"]
    assert (fish.text, fish.lang, fish.group, fish.speaker) == ("Ryba z scene3.", "cs", "scene3", "cs/small")
    assert fish.translations == {"en": "Fish of scene3.", "nl": "Vis uit scene3."}
    assert ghost.speaker == "cs/scene3/font_elk"
    assert ghost.translations == {"en": "Here."}


def test_a_scene_is_in_the_same_split_in_every_language_and_near_the_wanted_share(game: Path) -> None:
    splits = {}
    for lang in ("cs", "nl"):
        corpus = reader(game, lang)
        splits[lang] = {split: {row.group for row in said(corpus, split)} for split in corpus.splits()}
    assert splits["cs"] == splits["nl"]
    assert [len(splits["cs"][split]) for split in SPLITS] == [32, 4, 4]
    assert set.union(*splits["cs"].values()) == set(SCENES)


def test_the_split_is_the_same_in_every_run_and_for_both_paths(game: Path) -> None:
    """The scenes are named here: a changed split would make old and new figures incomparable."""
    for path in (game, game / GAME):
        scenes = {row.group for row in said(reader(path, "nl"), "test")}
        assert scenes == {"scene15", "scene17", "scene19", "scene39"}


def test_fingerprint_follows_content_not_place(game: Path, copy: Callable[[], Path]) -> None:
    before = reader(game, "nl").fingerprint()
    other = copy()
    assert reader(other, "nl").fingerprint() == before != reader(other, "cs").fingerprint()
    script = other / GAME / "script/scene0/dialogs_nl.lua"
    script.write_text(script.read_text(encoding="utf-8").replace("Vis", "Fisch"), encoding="utf-8")
    assert reader(other, "nl").fingerprint() != before


@pytest.fixture
def copy(game: Path, tmp_path: Path) -> Callable[[], Path]:
    return lambda: Path(shutil.copytree(game, tmp_path / "copy"))


def test_shared_lines_and_prefixed_scripts_find_their_clips(copy: Callable[[], Path]) -> None:
    path = copy()
    root = path / GAME
    write_script(root / "script/share/bore_dialogs_cs.lua", {"nuda": ("font_big", "I am bored.", "Nuda.")})
    write_script(root / "script/share/shout_dialogs_cs.lua", {"hej": ("font_big", "Hey!", "Hej!")})
    write_script(root / "script/share/other_dialogs_cs.lua", {"nic": ("font_big", "Nothing.", "Nic.")})
    write_script(root / "script/scene0/brief_dialogs_cs.lua", {"pomoc": ("font_white", "Help.", "Pomoc.")})
    for clip in ("share/borejokes/cs/nuda", "share/border/cs/hej", "scene0/cs/pomoc"):
        write_clip(root / "sound" / f"{clip}.ogg")
    new = {row.id: row.text for row in rows_of(reader(path, "cs"))}
    assert new["share/borejokes/nuda"] == "Nuda."
    assert new["share/border/hej"] == "Hej!"
    assert new["scene0/pomoc"] == "Pomoc."
    assert len(new) == 83


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (r'dialogStr("Řekl: \"Aha\", a šel.")', 'Řekl: "Aha", a šel.'),
        (r'dialogStr("C:\\WINDOWS\\CONFIG")', r"C:\WINDOWS\CONFIG"),
        (r'dialogStr("naar \/etc")', "naar /etc"),
        (r'dialogStr("eerst\n dan\tverder")', "eerst dan verder"),
        ('dialogStr(\n  "Op de volgende regel.")', "Op de volgende regel."),
        ('dialogStr("Wat -- (zegt hij, dus) -- nu?")', "Wat -- (zegt hij, dus) -- nu?"),
        ('dialogStr("In delen, "..\n "aan elkaar.")', "In delen, aan elkaar."),
        ('-- before: dialogStr("Nee.")\ndialogStr("Ja.") -- "ja"', "Ja."),
        ('dialogStr("")', ""),
        ('dialogStr("A%1.")', ""),
        ('dialogStr("Voor 100 % goed.")', "Voor 100 % goed."),
        ('dialogStr("id", "font", "te veel")', ""),
    ],
)
def test_scripts_are_read_as_lua_reads_them(source: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "dialogs_nl.lua"
    path.write_text(f'\ndialogId("a-b", "font_big", "English \\"text\\"")\n{source}\n', encoding="utf-8")
    assert read_script(path) == {"a-b": Line("font_big", text)}
    assert read_script(path, original=True)["a-b"].text in ('English "text"', text)


def test_a_line_without_a_translation_does_not_take_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "dialogs_nl.lua"
    path.write_text('dialogStr("x")\ndialogId("a", "f", "A")\ndialogId("b", "g", "B")\ndialogStr("bee")\n')
    assert read_script(path) == {"a": Line("f", ""), "b": Line("g", "bee")}
    assert read_script(path, original=True)["a"] == Line("f", "A")


def test_a_script_in_another_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "dialogs_cs.lua"
    path.write_bytes('dialogId("a", "f", "A")\ndialogStr("Kůň")'.encode("iso-8859-2"))
    with pytest.raises(DataError, match=r"dialogs_cs\.lua.*UTF-8"):
        read_script(path)


def test_another_folder_or_language_says_how_to_get_it(game: Path, tmp_path: Path) -> None:
    for path, lang in ((tmp_path, "cs"), (tmp_path / "missing", "cs"), (game, "de")):
        corpus = open_corpus(CorpusOptions(reader="fish_fillets", path=str(path), lang=lang))
        with pytest.raises(DataError, match="apt-get download fillets-ng-data") as error:
            corpus.splits()
        assert str(path) in str(error.value)
