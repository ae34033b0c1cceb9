import pytest

from xlst_ray.config import load
from xlst_ray.errors import ConfigError
from xlst_ray.train.options import TrainOptions


@pytest.mark.parametrize("key", ["warmup", "validate_every"])
def test_what_would_never_be_reached_is_refused(key: str) -> None:
    rest = ["updates=100", "warmup=10", "validate_every=10"]
    assert load(TrainOptions, None, rest).updates == 100
    with pytest.raises(ConfigError, match=rf"{key} \(101\) is longer than updates \(100\)"):
        load(TrainOptions, None, [*rest, f"{key}=101"])


@pytest.mark.parametrize(
    "wrong", ["updates=0", "lr=0", "accumulate=0", "patience=0", "label_smoothing=1", "ctc_weight=2"]
)
def test_figures_that_mean_nothing_are_refused(wrong: str) -> None:
    with pytest.raises(ConfigError, match=wrong.partition("=")[0]):
        load(TrainOptions, None, [wrong])
