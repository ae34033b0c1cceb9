"""Message catalogues of GNU gettext: `.mo` and `.po` files as plain dictionaries, and what of a message is a sentence.

Not the standard library's `gettext`, which compiles the plural rule that a file brings along; the forms themselves are
all that is wanted here. Format: GNU gettext manual, "The Format of GNU MO Files" and "The Format of PO Files".
"""

import ast
import re
import struct
from collections.abc import Iterator
from typing import Final

from xlst_ray import storage
from xlst_ray.errors import DataError
from xlst_ray.mt.protocol import tidy

Catalogue = dict[str, str]  # msgid, with its context before \x04 where it has one -> translation, singular form

_MAGIC: Final = 0x950412DE
_CATALOGUE: Final = re.compile(r".*/(?P<lang>[^/]+)/LC_MESSAGES/(?P<domain>[^/]+)\.(?:mo|po)")
_PO_LINE: Final = re.compile(r'(?:(?P<key>msgctxt|msgid|msgid_plural|msgstr(?:\[\d+\])?)\s*)?(?P<text>".*")')
_STYLE_TAG: Final = re.compile(r"</?(?:b|i|u|tt|em|big|small|strong|span)(?:\s[^>]*)?>", re.IGNORECASE)
_MNEMONIC: Final = re.compile(r"[_&](?=\w)")
_NOT_PROSE: Final = re.compile(r"[%{}<>|\\$#@=~^_&*\[\]]|://|\w/\w|--|\n\s*\n")


def find_catalogues(root: str) -> dict[str, dict[str, list[str]]]:
    """URLs of the catalogues `<lang>/LC_MESSAGES/<domain>.mo` (or `.po`) anywhere below a root.

    Returns:
        URLs by language and by domain: the name that a catalogue has in all its languages.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for url in [*storage.list_files(root, ".mo", recursive=True), *storage.list_files(root, ".po", recursive=True)]:
        match = _CATALOGUE.fullmatch(url)
        if match is not None:
            found.setdefault(match["lang"], {}).setdefault(match["domain"], []).append(url)
    return found


def read_catalogue(url: str) -> Catalogue:
    """The messages of a `.mo` or `.po` file, without its header, fuzzy and untranslated ones.

    Raises:
        DataError: cut off, or not a catalogue.
    """
    data = storage.read_bytes(url)
    try:
        return _from_po(data) if url.endswith(".po") else _from_mo(data)
    except (struct.error, UnicodeDecodeError, LookupError, SyntaxError, ValueError) as error:
        raise DataError(f"is not a gettext catalogue ({error})", where=url) from None


def prose(message: str) -> str | None:
    """The sentence in a message of a user interface, or none where it is no plain text.

    >>> prose("<b>Ulož_it soubor</b>"), prose("Open &File"), prose("%d files of {name}")
    ('Uložit soubor', 'Open File', None)
    """
    text = _STYLE_TAG.sub("", message)
    if len(_MNEMONIC.findall(text)) == 1:
        text = _MNEMONIC.sub("", text)
    if _NOT_PROSE.search(text) or not any(character.isalpha() for character in text):
        return None
    return tidy(text)


def _from_mo(data: bytes) -> Catalogue:
    order = "<" if struct.unpack_from("<I", data)[0] == _MAGIC else ">"
    magic, _, count, ids_at, texts_at = struct.unpack_from(f"{order}5I", data)
    if magic != _MAGIC:
        raise ValueError("its magic number is wrong")

    def strings(table_at: int) -> Iterator[bytes]:
        for index in range(count):
            length, start = struct.unpack_from(f"{order}2I", data, table_at + 8 * index)
            if start + length > len(data):
                raise ValueError("it is cut off")
            yield data[start : start + length]

    messages = dict(zip(strings(ids_at), strings(texts_at), strict=True))
    charset = _charset(messages.pop(b"", b""))
    return {
        key.partition(b"\0")[0].decode(charset): text.partition(b"\0")[0].decode(charset)
        for key, text in messages.items()
        if text.partition(b"\0")[0]
    }


def _from_po(data: bytes) -> Catalogue:
    text = data.decode(_charset(data))
    entries = (_po_entry(block) for block in re.split(r"\n\s*\n", text.replace("\r\n", "\n")))
    return {key: value for key, value in entries if key and value}


def _po_entry(block: str) -> tuple[str, str]:
    """Message id and translation of one entry; the latter is empty where it does not count."""
    fields: dict[str, str] = {}
    key = ""
    for line in block.splitlines():
        if line.startswith("#,") and "fuzzy" in line:
            return "", ""
        match = _PO_LINE.fullmatch(line.strip())
        if match is None:
            if line.strip() and not line.startswith("#"):
                raise ValueError(f"cannot read the line {line[:40]!r}")
            continue
        key = match["key"] or key
        fields[key] = fields.get(key, "") + str(ast.literal_eval(match["text"]))
    context = f"{fields['msgctxt']}\x04" if "msgctxt" in fields else ""
    name = fields.get("msgid", "")
    return (context + name if name else ""), fields.get("msgstr", fields.get("msgstr[0]", ""))


def _charset(header: bytes) -> str:
    match = re.search(rb"charset=([\w-]+)", header)
    return "utf-8" if match is None or match[1] == b"CHARSET" else match[1].decode("ascii")
