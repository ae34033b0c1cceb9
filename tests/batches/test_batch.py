import numpy as np
import pyarrow as pa
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xlst_ray.batches.batch import Batch, collate
from xlst_ray.text.ids import EOS, PAD


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    count = draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 100)))
    features = [torch.from_numpy(rng.standard_normal((draw(st.integers(1, 9)), 3))).half() for _ in range(count)]
    tokens = [rng.integers(4, 50, draw(st.integers(0, 6))) for _ in range(count)]
    return collate([f"ü-{number}" for number in range(count)], features, tokens)


def test_a_batch_is_padded_behind_each_utterance() -> None:
    features = [torch.full((frames, 2), float(frames)).half() for frames in (3, 1)]
    batch = collate(["one", "two"], features, [np.array([7]), np.array([8, 9])])
    assert batch.ids == ("one", "two")
    assert batch.features.dtype == np.float16
    np.testing.assert_array_equal(batch.features[:, :, 1], [[3, 3, 3], [1, 0, 0]])
    np.testing.assert_array_equal(batch.targets, [[7, EOS, PAD], [8, 9, EOS]])
    assert (batch.frames.tolist(), batch.target_lengths.tolist()) == ([3, 1], [2, 3])


@settings(max_examples=50, deadline=None)
@given(batches())
def test_a_batch_is_the_same_behind_the_row_of_a_dataset(batch: Batch) -> None:
    (row,) = pa.Table.from_pylist([batch.to_row()]).to_pylist()
    back = Batch.from_row(row)
    assert back.ids == batch.ids
    for name in ("features", "frames", "targets", "target_lengths"):
        np.testing.assert_array_equal(getattr(back, name), getattr(batch, name), strict=True)
