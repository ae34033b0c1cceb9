from pathlib import Path

import pyarrow as pa
import pytest

from xlst_ray import storage
from xlst_ray.errors import TranslationError
from xlst_ray.mt.protocol import Translation
from xlst_ray.mt.translations import Translations


def ok(text: str, tokens: int = 0) -> Translation:
    return Translation(text, "ok", None, tokens, 2 * tokens)


FAILED = Translation(None, "error", "timeout: after 60 s")
MISSING = Translation(None, "missing", "not in the phrasebook")


def add(kept: Translations, bits: str, results: dict[str, Translation], attempt: int = 0, run: str = "r") -> None:
    kept.add(bits, pa.array(list(results)), list(results.values()), attempt=attempt, run=run)


def known(kept: Translations, bits: str) -> dict[str, str | None]:
    table = kept.read(bits)
    found = dict(zip(table["text"].to_pylist(), table["translation"].to_pylist(), strict=True))
    assert len(found) == len(table)
    return found


def pending(kept: Translations, bits: str, texts: list[str], attempt: int = 0) -> list[str]:
    found: list[str] = kept.pending(pa.array(texts), bits, attempt).to_pylist()
    return found


@pytest.fixture
def kept(tmp_path: Path) -> Translations:
    return Translations(str(tmp_path / "cs-nl-x"))


def test_what_was_added_is_found_by_finer_and_by_coarser_bits(kept: Translations) -> None:
    assert known(kept, "01") == {}
    add(kept, "01", {"a": ok("A"), "b": MISSING})
    add(kept, "11", {"c": ok("C")})
    assert known(kept, "01") == known(kept, "0") == known(kept, "0110") == {"a": "A", "b": None}
    assert known(kept, "") == {"a": "A", "b": None, "c": "C"}
    assert known(kept, "00") == {}
    assert pending(kept, "01", ["a", "x", "b"]) == ["x"]


def test_what_describes_the_engine_is_no_translation(kept: Translations) -> None:
    kept.describe({"engine": {"engine": "http"}})
    add(kept, "01", {"a": ok("A")})
    kept.describe({"engine": {"engine": "http"}})
    assert storage.read_json(f"{kept.folder}/engine.json") == {"engine": {"engine": "http"}}
    assert known(kept, "") == {"a": "A"}


def test_failures_are_pending_again_only_in_a_later_attempt(kept: Translations) -> None:
    add(kept, "0", {"a": ok("A"), "b": FAILED, "c": MISSING, "d": FAILED})
    texts = ["a", "b", "c", "d"]
    assert pending(kept, "0", texts) == []
    assert pending(kept, "0", texts, attempt=1) == ["b", "d"]
    add(kept, "0", {"b": ok("B"), "d": FAILED}, attempt=1)
    assert pending(kept, "0", texts, attempt=1) == []
    assert pending(kept, "0", texts, attempt=2) == ["d"]
    assert known(kept, "0") == {"a": "A", "b": "B", "c": None, "d": None}


def test_of_two_runs_a_success_stands_whichever_came_first(tmp_path: Path) -> None:
    for order in (1, -1):
        kept = Translations(str(tmp_path / str(order)))
        for run, result in [("one", FAILED), ("two", ok("A"))][::order]:
            add(kept, "0", {"a": result, "b": ok("B")}, run=run)
        assert known(kept, "0") == {"a": "A", "b": "B"}


def test_equal_content_is_one_file_and_no_file_changes(kept: Translations) -> None:
    add(kept, "0", {"a": ok("A")})
    (url,) = storage.list_files(kept.folder)
    before = storage.read_bytes(url)
    add(kept, "0", {"a": ok("A")})
    add(kept, "0", {"b": ok("B")})
    assert len(storage.list_files(kept.folder)) == 2
    assert storage.read_bytes(url) == before


def test_tokens_are_counted_once_for_the_label_set_that_paid(kept: Translations) -> None:
    add(kept, "01", {"a": ok("A", 3), "b": ok("B", 4)}, run="mine")
    add(kept, "01", {"c": ok("C", 100)}, run="other")
    add(kept, "1", {"d": ok("D", 5)}, run="mine")
    for length in range(1, 4):
        names = [f"{number:0{length}b}" for number in range(2**length)]
        counts = [kept.tokens_of(name, "mine") for name in names]
        assert [sum(side) for side in zip(*counts, strict=True)] == [12, 24]


def test_a_lost_result_is_refused_and_nothing_is_kept(kept: Translations) -> None:
    with pytest.raises(TranslationError, match="1 results for 2 sentences"):
        kept.add("0", pa.array(["a", "b"]), [ok("A")], attempt=0, run="r")
    assert not storage.list_files(kept.folder)
