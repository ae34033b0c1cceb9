import gettext
import io
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from xlst_ray.errors import DataError
from xlst_ray.mt.catalogues import find_catalogues, prose, read_catalogue

HEADER = "Content-Type: text/plain; charset={}\nPlural-Forms: nplurals=2; plural=(n != 1);\n"


def write_mo(path: Path, messages: dict[str, str], *, order: str = "<", charset: str = "utf-8") -> str:
    """A `.mo` file as msgfmt lays it out: two tables of (length, offset), then the strings with a NUL each."""
    entries = {"": HEADER.format(charset), **messages}
    keys = sorted(key.encode(charset) for key in entries)
    texts = [entries[key.decode(charset)].encode(charset) for key in keys]
    tables, body, at = b"", b"", 28 + 16 * len(keys)
    for item in [*keys, *texts]:
        tables += struct.pack(f"{order}2I", len(item), at + len(body))
        body += item + b"\0"
    head = struct.pack(f"{order}7I", 0x950412DE, 0, len(keys), 28, 28 + 8 * len(keys), 0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + tables + body)
    return str(path)


MESSAGES = {"Open": "Otevřít", "menu\x04Open": "Otvírat", "%d file\0%d files": "%d soubor\0%d soubory", "Close": ""}


@pytest.mark.parametrize(("order", "charset"), [("<", "utf-8"), (">", "utf-8"), ("<", "iso-8859-2")])
def test_mo_files_of_either_byte_order_and_any_charset(tmp_path: Path, order: str, charset: str) -> None:
    url = write_mo(tmp_path / "x.mo", MESSAGES, order=order, charset=charset)
    found = read_catalogue(url)
    assert found == {"Open": "Otevřít", "menu\x04Open": "Otvírat", "%d file": "%d soubor"}
    oracle = gettext.GNUTranslations(io.BytesIO(Path(url).read_bytes()))
    assert found["Open"] == oracle.gettext("Open")
    assert found["menu\x04Open"] == oracle.pgettext("menu", "Open")
    assert found["%d file"] == oracle.ngettext("%d file", "%d files", 1)


PO = r"""# Translators' comment
msgid ""
msgstr ""
"Content-Type: text/plain; charset=UTF-8\n"
"Plural-Forms: nplurals=2; plural=(n != 1);\n"

#: file.c:1
msgid "Open"
msgstr "Otevřít"

msgctxt "menu"
msgid "Open"
msgstr "Otvírat"

#, fuzzy, c-format
msgid "Save"
msgstr "Uložit"

msgid ""
"Say \"hello\"\n"
"to all"
msgstr ""
"Pozdravte\t"
"všechny"

msgid "%d file"
msgid_plural "%d files"
msgstr[0] "%d soubor"
msgstr[1] "%d soubory"

msgid "Close"
msgstr ""

#~ msgid "Old"
#~ msgstr "Starý"
"""


def test_po_files(tmp_path: Path) -> None:
    path = tmp_path / "x.po"
    path.write_text(PO, encoding="utf-8")
    expected = {
        "Open": "Otevřít",
        "menu\x04Open": "Otvírat",
        'Say "hello"\nto all': "Pozdravte\tvšechny",
        "%d file": "%d soubor",
    }
    assert read_catalogue(str(path)) == expected
    if shutil.which("msgfmt"):
        subprocess.run(["msgfmt", "-o", tmp_path / "x.mo", path], check=True)
        assert read_catalogue(str(tmp_path / "x.mo")) == expected


def test_damaged_catalogues_are_named(tmp_path: Path) -> None:
    whole = Path(write_mo(tmp_path / "x.mo", MESSAGES)).read_bytes()
    for name, data in {
        "cut.mo": whole[: len(whole) // 2],
        "short.mo": whole[:10],
        "noise.mo": b"noise" * 40,
        "noise.po": b"noise",
        "charset.mo": whole.replace(b"charset=utf-8", b"charset=nowhere"),
    }.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=rf"{name}: is not a gettext catalogue"):
            read_catalogue(str(tmp_path / name))


def test_catalogues_are_found_below_a_root(tmp_path: Path) -> None:
    for name in ("usr/share/locale/cs/LC_MESSAGES/a.mo", "games/translations/nl/LC_MESSAGES/a.mo", "cs/other/b.mo"):
        write_mo(tmp_path / name, {})
    assert find_catalogues(str(tmp_path)) == {
        "cs": {"a": [f"{tmp_path}/usr/share/locale/cs/LC_MESSAGES/a.mo"]},
        "nl": {"a": [f"{tmp_path}/games/translations/nl/LC_MESSAGES/a.mo"]},
    }


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ("Open _File", "Open File"),
        ("Ulož_it soubor", "Uložit soubor"),
        ("Open &File…", "Open File…"),
        ("<b>Not\nsaved</b>", "Not saved"),
        ('<span size="small">Hello</span> there', "Hello there"),
        ("one_two_three", None),
        ("Salt & pepper", None),
        ("%d files", None),
        ("Dear {name}", None),
        ("$amount due", None),
        ("See <ref>dst=x</ref>", None),
        ("See https://example.org", None),
        ("First paragraph\n\nsecond", None),
        ("12:30", None),
        ("", None),
    ],
)
def test_prose_is_told_from_markup(message: str, sentence: str | None) -> None:
    assert prose(message) == sentence
