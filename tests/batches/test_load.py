import io
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import tones
import torch

from xlst_ray import storage
from xlst_ray.audio._torchaudio import kaldi
from xlst_ray.audio.augment import AugmentOptions, change_speed, generator_for, spec_augment, speed_of
from xlst_ray.audio.decode import decode_flac
from xlst_ray.batches.batch import Batch
from xlst_ray.batches.options import BatchOptions
from xlst_ray.batches.plan import Planned
from xlst_ray.errors import DataError
from xlst_ray.shards.files import shard_urls

TEXTS = [tones.LETTERS[i % 7 : i % 7 + 1 + i % 4] for i in range(75)]  # more than two row groups of 32
ROWS = np.array([70, 3, 31, 32, 74, 64])
ONCE = Planned.once(ROWS)
MASKS = AugmentOptions(policy="ld", freq_width=20, time_width=20)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tones.write_shards(tmp_path_factory.mktemp("shards"), "train", TEXTS[:60], TEXTS[60:])


@pytest.fixture(scope="module")
def one_shard(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tones.write_shards(tmp_path_factory.mktemp("shards"), "train", TEXTS)


def flac_of(shards: str, row: int) -> bytes:
    (url,) = shard_urls(shards, "train")
    flac: bytes = storage.read_table(url)["audio"][row].as_py()
    return flac


def kaldi_features(wave: torch.Tensor) -> torch.Tensor:
    """Kaldi's filterbank by torchaudio, mean 0 and variance 1."""
    features = kaldi.fbank(wave[None] * 2**15, num_mel_bins=80, dither=0.0, sample_frequency=16_000)
    return (features - features.mean(0)) / features.std(0, correction=0)


def by_hand(shards: str, row: int) -> torch.Tensor:
    """Features of a row of the only shard."""
    wave, rate = soundfile.read(io.BytesIO(flac_of(shards, row)), dtype="float32")
    assert rate == 16_000
    return kaldi_features(torch.from_numpy(wave))


def each(batches: Iterator[Batch]) -> dict[str, np.ndarray]:
    """Features of each utterance without padding."""
    return {
        name: features[:frames].copy()
        for batch in batches
        for name, features, frames in zip(batch.ids, batch.features, batch.frames, strict=True)
    }


def in_pass(rows: np.ndarray, turn: int) -> Planned:
    return Planned(rows, np.full_like(rows, turn))


def assert_equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name, features in one.items():
        np.testing.assert_array_equal(features, other[name], strict=True)


def test_a_batch_is_what_its_recordings_give_one_by_one(one_shard: str) -> None:
    batch = tones.loader(one_shard).load(ONCE)
    assert batch.ids == tuple(f"train-0-{row}" for row in ROWS)
    for row, features, frames, targets, length in zip(
        ROWS, batch.features, batch.frames, batch.targets, batch.target_lengths, strict=True
    ):
        expected = by_hand(one_shard, int(row))
        assert frames == len(expected)
        np.testing.assert_allclose(features[:frames], expected.numpy(), atol=4e-3)
        assert not features[frames:].any()
        assert targets[: length - 1].tolist() == tones.encode(TEXTS[row])


@pytest.mark.parametrize("row_group", [1, 7, 32, 1000])
def test_rows_are_found_whatever_the_row_groups(one_shard: str, tmp_path: Path, row_group: int) -> None:
    other = tones.write_shards(tmp_path, "train", TEXTS, row_group=row_group)
    expected, found = (tones.loader(folder).load(ONCE) for folder in (one_shard, other))
    assert_equal(each(iter([expected])), each(iter([found])))


def test_shards_are_read_each_at_its_rows(one_shard: str, shards: str) -> None:
    whole, cut = (tones.loader(folder).load(ONCE) for folder in (one_shard, shards))
    assert cut.ids == ("train-1-10", "train-0-3", "train-0-31", "train-0-32", "train-1-14", "train-1-4")
    # The noise of a recording goes by its row, so only the first shard's rows are bit for bit those of the one shard.
    for at, row in enumerate(ROWS):
        if row < 60:
            np.testing.assert_array_equal(cut.features[at], whole.features[at])
        assert cut.targets[at].tolist() == whole.targets[at].tolist()


def test_features_do_not_depend_on_the_batch(shards: str) -> None:
    """To the last bit: a resumed run meets an utterance in other company than the run that kept it in its cache."""
    loader = tones.loader(shards, options=BatchOptions(cache_mb=0), augment=MASKS)
    everyone = np.arange(0, len(TEXTS), 3)
    assert_equal(
        each(iter([loader.load(in_pass(everyone, 1))])),
        each(loader.load(in_pass(np.array([row]), 1)) for row in everyone),
    )


def test_features_do_not_depend_on_the_threads_that_make_them(shards: str) -> None:
    """Nor does the number of torch's threads in whoever asks for them change."""
    speeds = AugmentOptions(policy="ld", speeds=(0.9, 1.0, 1.1))
    before = torch.get_num_threads()
    one, three = (
        each(tones.train_batches(tones.loader(shards, augment=speeds, threads=threads), 0)) for threads in (1, 3)
    )
    assert len(one) == len(TEXTS)
    assert_equal(one, three)
    assert torch.get_num_threads() == before


def test_the_cache_changes_nothing(shards: str) -> None:
    tiny = BatchOptions(max_utterances=9)
    with_cache, without = (
        tones.loader(shards, options=tiny.replace(cache_mb=size), augment=MASKS) for size in (512, 0)
    )
    for epoch in range(3):
        one, other = (each(tones.train_batches(loader, epoch)) for loader in (with_cache, without))
        assert len(one) == len(TEXTS)
        assert_equal(one, other)


def test_the_cache_is_used_and_bounded(one_shard: str, tmp_path: Path) -> None:
    """What was read once is there after its shard is gone; what found no room is not."""
    copy = tones.write_shards(tmp_path, "train", TEXTS[:4])
    roomy, tight = (tones.loader(copy, options=BatchOptions(cache_mb=size)) for size in (1, 0))
    rows = np.arange(4)
    expected = [each(iter([loader.load(in_pass(rows, 0))])) for loader in (roomy, tight)]
    storage.delete(copy)
    assert_equal(each(iter([roomy.load(in_pass(rows[::-1], 1))])), expected[0])
    with pytest.raises(DataError, match="no such file"):
        tight.load(in_pass(rows, 1))


def test_masks_are_those_of_seed_epoch_and_utterance(shards: str) -> None:
    plain = each(iter([tones.loader(shards).load(in_pass(ROWS, 3))]))
    masked = each(iter([tones.loader(shards, augment=MASKS, seed=5).load(in_pass(ROWS, 3))]))
    assert_equal(
        masked,
        {
            name: spec_augment(torch.from_numpy(features), MASKS, generator_for(5, 3, name)).numpy()
            for name, features in plain.items()
        },
    )
    assert any((masked[name] != plain[name]).any() for name in plain)


def test_speeds_are_those_of_seed_epoch_and_utterance(one_shard: str) -> None:
    """Also behind the cache, which keeps every speed by itself; masks are laid over the changed speed."""
    speeds = AugmentOptions(policy="none", speeds=(0.9, 1.0, 1.1))
    loader = tones.loader(one_shard, augment=speeds, seed=5)
    plain = each(iter([tones.loader(one_shard).load(ONCE)]))
    drawn = set()
    for turn in (0, 1, 2, 0, 1, 2):
        for name, features in each(iter([loader.load(in_pass(ROWS, turn))])).items():
            speed = speed_of(speeds, 5, turn, name)
            drawn.add(speed)
            wave = decode_flac(flac_of(one_shard, int(name.rpartition("-")[2])))
            expected = kaldi_features(torch.from_numpy(change_speed(wave, speed)))
            np.testing.assert_allclose(features, expected.numpy(), atol=4e-3)
            assert (speed == 1.0) == (features.shape == plain[name].shape and (features == plain[name]).all())
    assert drawn == {0.9, 1.0, 1.1}


def test_a_window_reads_each_shard_once(shards: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    real = storage.open_parquet

    def counted(url: str) -> AbstractContextManager[pq.ParquetFile]:
        opened.append(url)
        return real(url)

    monkeypatch.setattr(storage, "open_parquet", counted)
    loader = tones.loader(shards, options=BatchOptions(max_utterances=4, cache_mb=0))
    opened.clear()
    assert len(list(tones.train_batches(loader, 0))) > 10
    assert sorted(opened) == shard_urls(shards, "train")


def test_ranks_share_an_epoch_and_a_resume_starts_in_its_middle(shards: str) -> None:
    options = BatchOptions(max_utterances=5)
    ranks = [
        list(tones.train_batches(tones.loader(shards, options=options), 2, rank=rank, world=2)) for rank in range(2)
    ]
    assert len(ranks[0]) == len(ranks[1])
    seen = [name for batches in ranks for batch in batches for name in batch.ids]
    assert len(set(seen)) == len(seen) == len(TEXTS)
    resumed = list(tones.train_batches(tones.loader(shards, options=options), 2, 3, rank=1, world=2))
    assert [batch.ids for batch in resumed] == [batch.ids for batch in ranks[1][3:]]


def test_a_held_out_set_is_dealt_to_the_ranks_once(shards: str) -> None:
    loader = tones.loader(shards, options=BatchOptions(max_utterances=4))
    parts = [each(loader.held_out_batches(ranks=[rank], world=3)) for rank in range(3)]
    whole = each(loader.held_out_batches(ranks=[0], world=1))
    assert sum(map(len, parts)) == len(whole) == len(TEXTS)
    assert_equal({**parts[0], **parts[1], **parts[2]}, whole)


def test_a_damaged_recording_is_named(tmp_path: Path) -> None:
    shards = tones.write_shards(tmp_path, "train", TEXTS[:40])
    loader = tones.loader(shards)
    (url,) = shard_urls(shards, "train")
    table = storage.read_table(url)
    audio = table["audio"].to_pylist()
    audio[7] = audio[7][:30] + bytes(50)
    storage.write_table(url, table.set_column(table.schema.get_field_index("audio"), "audio", [audio]))
    with pytest.raises(DataError, match="is not FLAC") as raised:
        loader.load(in_pass(np.array([3, 7]), 0))
    assert raised.value.where == f"{url}, row 8"


def test_a_damaged_shard_is_named(one_shard: str, tmp_path: Path) -> None:
    copy = tones.write_shards(tmp_path, "train", TEXTS[:40])
    loader = tones.loader(copy)
    path = Path(shard_urls(copy, "train")[0])
    data = bytearray(path.read_bytes())
    data[2000 : len(data) // 2] = bytes(len(data) // 2 - 2000)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"shard-00000\.parquet: cannot be read as Parquet"):
        loader.load(in_pass(np.array([0, 39]), 0))
