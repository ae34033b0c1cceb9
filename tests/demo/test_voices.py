from hypothesis import given
from hypothesis import strategies as st

from xlst_ray.demo.options import DemoOptions
from xlst_ray.demo.voices import HEARD, UNHEARD, cast, room_of


@given(st.integers(0, 10**6))
def test_no_voice_stands_in_two_splits(seed: int) -> None:
    options = DemoOptions(seed=seed)
    for lang in ("en", "fi"):
        train, dev, test = (set(cast(options, lang, split)) for split in ("train", "dev", "test"))
        assert not train & dev
        assert not train & test
        assert not dev & test


def test_counts_are_the_options() -> None:
    options = DemoOptions(source_train_speakers=7, target_train_speakers=3, dev_speakers=2, test_speakers=9)
    assert [len(cast(options, "en", split)) for split in ("train", "dev", "test")] == [7, 2, 9]
    assert [len(cast(options, "fi", split)) for split in ("train", "dev", "test")] == [3, 2, 9]


def test_some_variants_are_heard_in_test_alone() -> None:
    options = DemoOptions()
    assert {voice.variant for voice in cast(options, "fi", "test")} == {*HEARD, *UNHEARD}
    assert {voice.variant for voice in cast(options, "en", "train")} == set(HEARD)
    assert not set(HEARD) & set(UNHEARD)


def test_more_speakers_keep_the_first_ones() -> None:
    few, many = DemoOptions(target_train_speakers=4), DemoOptions(target_train_speakers=9)
    assert cast(many, "fi", "train")[:4] == cast(few, "fi", "train")


@given(st.integers(0, 10**6), st.text(min_size=1))
def test_rooms_are_within_the_options_and_follow_the_id(seed: int, utterance_id: str) -> None:
    options = DemoOptions(seed=seed, snr_low=10, snr_high=15)
    room = room_of(options, utterance_id)
    assert room == room_of(options, utterance_id)
    assert 10 <= room.snr <= 15
    assert 0.1 <= room.peak <= 0.9
    assert room != room_of(options, utterance_id + "x")
