from pathlib import Path

import pytest

from xlst_ray.errors import ConfigError, DataError
from xlst_ray.mt.engines import open_translator
from xlst_ray.mt.options import EngineOptions
from xlst_ray.mt.protocol import Translation, tidy


def phrasebook(path: Path, text: str) -> EngineOptions:
    path.write_text(text, encoding="utf-8")
    return EngineOptions(engine="phrasebook", table=str(path))


def test_tidy_makes_equal_sentences_equal() -> None:
    assert tidy(" e\u0301te\u00a0 \n a ") == "éte a"


def test_phrasebook_looks_up_tidied_sentences(tmp_path: Path) -> None:
    options = phrasebook(tmp_path / "table.tsv", "cs\tnl\nDobrý den.\tGoedendag.\nAno\tJa\n")
    translator = open_translator(options, "cs", "nl")
    assert translator.translate(["Ano", " Dobry\u0301  den. ", "Ne"]) == [
        Translation("Ja", "ok"),
        Translation("Goedendag.", "ok"),
        Translation(None, "missing", "not in the phrasebook"),
    ]
    assert open_translator(options, "nl", "cs").translate(["Ja"]) == [Translation("Ano", "ok")]


def test_phrasebook_without_the_language_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no column of the language et"):
        open_translator(phrasebook(tmp_path / "table.tsv", "cs\tnl\nano\tja\n"), "cs", "et")


def test_phrasebook_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'ano' in two ways"):
        open_translator(phrasebook(tmp_path / "table.tsv", "cs\tnl\nano\tja\nano\tnee\n"), "cs", "nl")


def test_human_is_no_engine() -> None:
    with pytest.raises(ConfigError, match="human translates nothing"):
        open_translator(EngineOptions(engine="human"), "cs", "nl")
