"""Fish Fillets NG: a game's dialogues, spoken by people in Czech and in Dutch, from three unpacked Debian packages.

Scripts are `script/<scene>/dialogs_<lang>.lua`, one pair of calls a line of dialogue, and clips are
`sound/<scene>/<lang>/<id>.ogg`; both languages speak the same lines, so every row has human translations. Lines that
many scenes share lie in `script/share/<prefix>_dialogs_<lang>.lua`. The game is GPL-2: read here, none of it shipped.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from xlst_ray.corpora.corpus import Row
from xlst_ray.corpora.options import CorpusOptions
from xlst_ray.errors import DataError
from xlst_ray.shards.schema import SPLITS, Utterance

GAME: Final = "usr/share/games/fillets-ng"
HELD_OUT: Final = 0.1  # of all lines, for dev and again for test
_ENGLISH: Final = "en"  # its scripts hold the original alone
_SHARED: Final = {"black": "blackjokes", "border": "border", "bore": "borejokes", "shout": "border"}
_FISH: Final = {"font_small": "small", "font_big": "big"}  # the two that talk in every scene, by their subtitles' font

_HOW_TO_GET: Final = (
    "on Debian: apt-get download fillets-ng-data fillets-ng-data-cs fillets-ng-data-nl; "
    "then for each of the three files: dpkg -x FILE FOLDER; path is FOLDER (clips are in cs and nl)"
)

_SCRIPT: Final = re.compile(r"(?:(?P<prefix>\w+)_)?dialogs_(?P<lang>[a-z]{2,3})\.lua")
_PLACEHOLDER: Final = re.compile(r"%\d")  # filled in while playing: nobody knows what is said
_TOKEN: Final = re.compile(r'--[^\n]*|"(?P<string>(?:[^"\\]|\\.)*)"|(?P<name>\w+)|(?P<mark>[(),])', re.DOTALL)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_CONTROL: Final = {"n": "\n", "t": "\t"}


@dataclass(frozen=True)
class Line:
    """One line of dialogue: the font of its subtitle, which tells who speaks, and its text (empty: not translated)."""

    font: str
    text: str


class FishFillets:
    """Reader of the game's folder, or of the folder that the packages were unpacked to. Scenes are the groups.

    A scene is in the same split in every language: else the test sentences of one language would be the training
    translations of the other. Rows are the lines with a transcript and a clip.
    """

    version = "fish_fillets 2"
    parts: Final = {split: split for split in SPLITS}
    layout = _HOW_TO_GET

    def __init__(self, options: CorpusOptions) -> None:
        self._lang = options.lang
        self._path = options.path

    def has(self, part: str) -> bool:
        """Raises `DataError` where it is not the game's folder or has no clip in this language."""
        if not any(self._root.glob(f"sound/**/{self._lang}/*.ogg")):
            raise DataError(f"has no clip in {self._lang!r}", where=str(self._root), hint=_HOW_TO_GET)
        return part in SPLITS

    def rows(self, part: str, split: str) -> Iterator[Row]:
        """The rows of a split, by scene, in the order of the script.

        Raises:
            DataError: a script that cannot be read.
        """
        for scene, its_split in self._split_of.items():
            if its_split == part:
                yield from self._scene(scene, split)

    def _scene(self, scene: str, split: str) -> Iterator[Row]:
        lines = self._lines[scene]
        for name, line in lines.get(self._lang, {}).items():
            clip = self._root / "sound" / scene / self._lang / f"{name}.ogg"
            if line.text and clip.exists():
                known = {lang: found[name].text for lang, found in lines.items() if name in found}
                utterance = Utterance(
                    id=f"{scene}/{name}",
                    audio=str(clip),
                    text=line.text,
                    lang=self._lang,
                    split=split,
                    speaker=f"{self._lang}/{_FISH.get(line.font, f'{scene}/{line.font}')}",
                    group=scene,
                    translations={lang: text for lang, text in known.items() if text and lang != self._lang},
                )
                yield Row(f"scene {scene}, {name}", utterance)

    @cached_property
    def _lines(self) -> dict[str, dict[str, dict[str, Line]]]:
        """All lines by scene, language and id."""
        lines: dict[str, dict[str, dict[str, Line]]] = {}
        for scene, lang, path in self._scripts():
            lines.setdefault(scene, {}).setdefault(lang, {}).update(read_script(path, original=lang == _ENGLISH))
        return lines

    @cached_property
    def _split_of(self) -> dict[str, str]:
        """Scenes in the order of a hash of their names: the first tenth of the lines is test, the second dev."""
        sizes = {scene: len(set().union(*lines.values())) for scene, lines in self._lines.items()}
        passed, split_of = 0, {}
        for scene in sorted(sizes, key=lambda name: hashlib.sha256(name.encode()).digest()):
            share = passed / sum(sizes.values())
            split_of[scene] = "test" if share < HELD_OUT else "dev" if share < 2 * HELD_OUT else "train"
            passed += sizes[scene]
        return split_of

    def _scripts(self) -> Iterator[tuple[str, str, Path]]:
        """(scene, language, script file), in the same order everywhere."""
        for path in sorted(self._root.glob("script/*/*.lua")):
            match, scene = _SCRIPT.fullmatch(path.name), path.parent.name
            if match is not None and scene != "share":
                yield scene, match["lang"], path
            elif match is not None and match["prefix"] in _SHARED:
                yield f"share/{_SHARED[match['prefix']]}", match["lang"], path

    @cached_property
    def _root(self) -> Path:
        for root in (Path(self._path), Path(self._path) / GAME):
            if (root / "script").is_dir() and (root / "sound").is_dir():
                return root
        raise DataError("is not the game Fish Fillets NG, unpacked", where=self._path, hint=_HOW_TO_GET)


def read_script(path: Path, *, original: bool = False) -> dict[str, Line]:
    """The lines of a dialogue script by id: `dialogId(id, font, English)`, then `dialogStr(text)` if it is translated.

    A call with other arguments (the Bulgarian scripts have one) is passed over, as a line without a translation.

    Args:
        path: the script.
        original: read the English of `dialogId` instead of the translation.

    Raises:
        DataError: not UTF-8.
    """
    try:
        source = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"is not UTF-8 ({error.reason})", where=str(path)) from None
    lines: dict[str, Line] = {}
    last = ""
    for function, arguments in _calls(source):
        match function, arguments:
            case "dialogId", [name, font, english]:
                last, lines[name] = name, Line(font, _clean(english) if original else "")
            case "dialogStr", [text] if last:
                lines[last] = Line(lines[last].font, _clean(text))
    return lines


def _calls(source: str) -> Iterator[tuple[str, list[str]]]:
    """The calls of a Lua script whose arguments are strings: (function, arguments)."""
    function, arguments = "", [""]
    for token in _TOKEN.finditer(source):
        if token["name"] is not None:
            function = token["name"]
        elif token["string"] is not None:
            arguments[-1] += _ESCAPE.sub(lambda escape: _CONTROL.get(escape[1], escape[1]), token["string"])
        elif token["mark"] == "(":
            arguments = [""]
        elif token["mark"] == ",":
            arguments.append("")
        elif token["mark"] == ")":
            yield function, arguments


def _clean(text: str) -> str:
    """On one line; nothing where a part of it is filled in while playing."""
    return "" if _PLACEHOLDER.search(text) else " ".join(text.split())
