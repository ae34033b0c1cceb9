from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xlst_ray.demo import grammar
from xlst_ray.demo.corpus import SHARES, parallel_pairs, sentences, split_of
from xlst_ray.demo.options import DemoOptions
from xlst_ray.errors import ConfigError


def small(seed: int = 0, **sizes: int) -> DemoOptions:
    return DemoOptions(seed=seed, **(dict.fromkeys(SHARES, 20) | sizes))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 60))
def test_splits_are_disjoint_in_both_languages_and_have_their_sizes(seed: int, train: int, test: int) -> None:
    options = small(seed, source_train=train, target_test=test, mt_pairs=train)
    drawn = {split: sentences(options, split) for split in SHARES}
    assert {split: len(pairs) for split, pairs in drawn.items()} == {split: getattr(options, split) for split in SHARES}
    for first, second in combinations(SHARES, 2):
        assert not {pair.en for pair in drawn[first]} & {pair.en for pair in drawn[second]}
        assert not {pair.fi for pair in drawn[first]} & {pair.fi for pair in drawn[second]}
    for pairs in drawn.values():
        assert len({pair.en for pair in pairs}) == len({pair.fi for pair in pairs}) == len(pairs)


def test_no_target_test_sentence_stands_in_any_training_text_at_full_size() -> None:
    options = DemoOptions()
    test = {pair.fi for pair in sentences(options, "target_test")}
    texts = {fi for _, fi in parallel_pairs(options)}
    for split in ("source_train", "source_dev", "target_train", "target_dev"):
        texts |= {pair.fi for pair in sentences(options, split)}
    assert len(test) == options.target_test
    assert not test & texts


def test_a_larger_split_holds_the_smaller_one_and_leaves_the_others() -> None:
    few, many = small(target_train=30), small(target_train=60)
    assert sentences(many, "target_train")[:30] == sentences(few, "target_train")
    assert sentences(many, "target_test") == sentences(few, "target_test")


def test_another_seed_draws_other_sentences() -> None:
    first, second = (set(sentences(small(seed, mt_pairs=200), "mt_pairs")) for seed in (0, 1))
    assert len(first & second) < 20


def test_shares_are_the_parts_of_the_grammar() -> None:
    pairs = list(grammar.pairs())[::7]
    for split, share in SHARES.items():
        assert sum(split_of(pair, 0) == split for pair in pairs) / len(pairs) == pytest.approx(share / 100, abs=0.01)


def test_pairs_for_translation_are_the_splits_text() -> None:
    options = small(mt_pairs=50)
    assert parallel_pairs(options) == sentences(options, "mt_pairs")
    assert all(isinstance(fi, str) and fi != en for en, fi in parallel_pairs(options))


def test_more_than_the_grammar_gives_is_refused() -> None:
    with pytest.raises(ConfigError) as error:
        sentences(small(target_dev=10_000), "target_dev")
    assert error.value.where == "demo.target_dev"
    most = int(str(error.value.hint).split()[2])
    assert len(sentences(small(target_dev=most), "target_dev")) == most
