import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlst_ray.demo import grammar
from xlst_ray.demo.grammar import ADJECTIVES, PEOPLE, ROOMS, SURFACES, TEMPLATES, THINGS, Pair


@pytest.fixture(scope="module")
def every_pair() -> list[Pair]:
    return list(grammar.pairs())


def test_no_two_meanings_share_a_sentence_in_either_language(every_pair: list[Pair]) -> None:
    assert len(every_pair) > 20_000
    assert len({pair.en for pair in every_pair}) == len(every_pair)
    assert len({pair.fi for pair in every_pair}) == len(every_pair)


def test_size_counts_meanings_but_for_those_that_name_a_person_twice(every_pair: list[Pair]) -> None:
    gifts = next(template for template in TEMPLATES if "gave" in template.en)
    assert grammar.SIZE - len(every_pair) == gifts.size // len(PEOPLE)


def test_sentences_are_short_and_plain(every_pair: list[Pair]) -> None:
    for texts in zip(*every_pair, strict=True):
        assert all(3 <= text.count(" ") + 1 <= 9 for text in texts)
        assert {letter for text in texts for letter in text} <= set("abcdefghijklmnopqrstuvwxyzåäö ")
        assert not any("  " in text or text != text.strip() for text in texts)


def test_the_domain_is_closed(every_pair: list[Pair]) -> None:
    english, finnish = ({word for text in texts for word in text.split()} for texts in zip(*every_pair, strict=True))
    assert 100 <= len(english) <= 200
    assert 150 <= len(finnish) <= 200


@pytest.mark.parametrize(
    ("en", "fi"),
    [
        ("the red book is on the table", "punainen kirja on pöydällä"),
        ("there are five red books in the kitchen", "keittiössä on viisi punaista kirjaa"),
        ("there is no old knife in the bedroom", "makuuhuoneessa ei ole vanhaa veistä"),
        ("my brother has an old hat", "veljelläni on vanha hattu"),
        ("the girl does not want a new bag", "tyttö ei halua uutta laukkua"),
        ("the girl wants a new bag", "tyttö haluaa uuden laukun"),
        ("the boy put the small key on the shelf", "poika laittoi pienen avaimen hyllylle"),
        ("the woman took the black key from the shelf", "nainen otti hyllyltä mustan avaimen"),
        ("the doctor gave the blue coat to my sister", "lääkäri antoi siskolleni sinisen takin"),
        ("put the white cup in the cellar", "laita valkoinen kuppi kellariin"),
        ("do not take the big box from the hall", "älä ota isoa laatikkoa eteisestä"),
        ("look for the green ball in the garden", "etsi vihreää palloa puutarhasta"),
        ("our neighbour goes to the library every week", "naapurimme menee joka viikko kirjastoon"),
        ("how many black bottles are there on the floor", "kuinka monta mustaa pulloa lattialla on"),
        ("the teacher was not in the shop last week", "opettaja ei ollut viime viikolla kaupassa"),
    ],
)
def test_translations_as_a_finn_writes_them(en: str, fi: str, every_pair: list[Pair]) -> None:
    assert Pair(en, fi) in every_pair


def test_the_object_is_partitive_exactly_after_numbers_negation_and_seeking() -> None:
    for template in TEMPLATES:
        if "thing" not in template.slots:
            continue
        asks = "num" in template.slots or any(
            word in template.fi.split() for word in ("ei", "älä", "etsii", "etsi", "monta")
        )
        assert ("{thing.part}" in template.fi) == asks, template
        for case in ("fi", "gen", "part"):
            if "adj" in template.slots:
                assert (f"{{adj.{case}}}" in template.fi) == (f"{{thing.{case}}}" in template.fi), template


def test_forms_follow_the_rules_of_the_language() -> None:
    """Written from a grammar book, not from the table: endings, vowel harmony, inner and outer cases."""
    for word in THINGS + ADJECTIVES:
        assert word.gen.endswith("n")
        assert word.part[-1] == ("a" if set(word.fi) & set("aou") else "ä")
    for place in ROOMS + SURFACES:
        vowel = "a" if set(place.where[:-1]) & set("aou") else "ä"
        outer = place in SURFACES
        assert place.where.endswith(("ll" if outer else "ss") + vowel)
        assert place.off.endswith(("lt" if outer else "st") + vowel)
        assert place.to.endswith("lle" if outer else "n")
    for person in PEOPLE:
        owner = {"my": "ni", "our": "mme"}.get(person.en.split()[0], "")
        assert person.fi.endswith(owner)
        assert person.to.endswith(f"lle{owner}")
        assert person.has.removesuffix(owner).endswith(("lla", "llä"))


def test_both_languages_use_the_same_slots() -> None:
    for template in TEMPLATES:
        assert {part.split(".")[0] for part in template.fi.split("{")[1:]} == set(template.slots)


@given(st.integers(0, 2**32))
def test_draws_are_meanings_of_the_grammar_and_follow_the_seed(seed: int) -> None:
    pair = grammar.draw(random.Random(seed))
    assert pair == grammar.draw(random.Random(seed))
    assert pair.fi[0].isalpha()
    assert pair.en.count("my brother") < 2


def test_draws_reach_every_word() -> None:
    rng = random.Random(0)
    counts = Counter(word for _ in range(4000) for word in grammar.draw(rng).fi.split())
    known = {word for pair in grammar.pairs() for word in pair.fi.split()}
    assert counts.keys() == known
    assert min(counts.values()) >= 3
