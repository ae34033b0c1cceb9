from dataclasses import replace

import pytest

from xlst_ray.cluster.train import progress_line
from xlst_ray.train.checkpoint import TrainState
from xlst_ray.train.meter import Meter, Progress
from xlst_ray.train.options import TrainOptions
from xlst_ray.train.task import Extent

OPTIONS = TrainOptions(updates=10, warmup=1, validate_every=5, log_every=4)


def test_logs_are_means_over_tokens_since_the_last_line() -> None:
    told: list[Progress] = []
    meter = Meter(OPTIONS, TrainState(update=2, seconds=100.0), told.append)
    for update, (loss, tokens) in enumerate([(1.0, 10), (3.0, 30), (5.0, 5), (1.0, 5), (2.0, 7), (4.0, 7)], 3):
        assert meter.wait(lambda: "batch") == "batch"
        meter.count(
            update, {"loss": loss, "tokens": float(tokens)}, update / 100, [Extent(3 * update, 4 * update, 9.0)]
        )
    assert [progress.update for progress in told] == [4, 8]
    meter.count(9, {"loss": 6.0, "tokens": 2.0}, 0.09, [Extent(5, 10)])
    meter.count(10, {"loss": 3.0, "tokens": 4.0}, 0.1, [Extent(9, 10), Extent(10, 20)])
    assert [progress.update for progress in told] == [4, 8, 10], "every log_every, and the last"
    assert [progress.logs["loss"] for progress in told] == [
        pytest.approx((10 + 90) / 40),
        pytest.approx((25 + 5 + 14 + 28) / 24),
        pytest.approx((12 + 12) / 6),
    ]
    assert [progress.lr for progress in told] == [0.04, 0.08, 0.1]
    assert told[-1].remaining == 0 < told[0].remaining
    assert all(0 <= progress.waiting <= 1 for progress in told)
    assert [progress.padding for progress in told] == [0.25, 0.25, pytest.approx(1 - 24 / 40)]
    assert told[2].audio_rate == 0 < told[0].audio_rate
    assert 100 <= told[0].seconds <= told[-1].seconds <= meter.seconds, "an earlier run's time counts"


def test_other_ranks_tell_nothing() -> None:
    meter = Meter(OPTIONS, TrainState(), None)
    for update in range(1, 11):
        meter.count(update, {"loss": 1.0, "tokens": 1.0}, 0.1, [Extent(1, 1)])
    assert meter.seconds >= 0


def test_the_line_tells_waiting_padding_and_audio_on_each_device() -> None:
    progress = Progress(
        update=3, updates=9, logs={"loss": 1.5}, lr=1e-3, seconds=5.0, waiting=0.1, padding=0.042, audio_rate=61.25,
        remaining=75, tokens=10.0, waited=0.5,
    )  # fmt: skip
    line = progress_line("asr", progress)
    assert line == (
        "asr  update 3/9  loss 1.500  lr 1.00e-03  waiting for data 10%  padding 4.2%"
        "  61.2 h of audio/h on each device  to go 1:15"
    )
    counted = replace(progress, flops=4.2e12)
    assert "on each device  4.2 TFLOP/s  to go" in progress_line("asr", counted)
    assert "  4.2 TFLOP/s (42.0% of the peak)  to go" in progress_line("asr", replace(counted, peak=1e13))
    assert "audio" not in progress_line("mt", replace(progress, audio_rate=0.0))
