"""The numbers of a run of translation, by hand."""

import pytest

from xlst_ray.mt.meter import TranslationMeter, forecast
from xlst_ray.mt.price import PriceOptions
from xlst_ray.mt.translate import Done

PRICE = PriceOptions(input=1000.0, output=2000.0, gpu_hour=3.6)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be set."""
    now = [1000.0]
    monkeypatch.setattr("xlst_ray.mt.meter.time.monotonic", lambda: now[0])
    return now


def done(sentences: int, ok: int, seconds: float, **reasons: int) -> Done:
    return {
        "sentences": sentences, "ok": ok, "reasons": reasons, "input_tokens": 10 * sentences,
        "output_tokens": 5 * ok, "seconds": seconds, "samples": [],
    }  # fmt: skip


def test_a_line_tells_rates_busy_engines_reasons_gpu_hours_cost_and_what_is_to_go(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    meter = TranslationMeter("translate en-ka (vllm)", 1000, engines=2, gpus=4, price=PRICE)
    clock[0] += 2
    meter.add(done(100, 99, 1.0, timeout=1))
    assert not capsys.readouterr().out, "the last line was less than 5 s ago"
    clock[0] += 8
    meter.add(done(100, 96, 17.0, timeout=1, empty=3))
    # 8 GPUs for 10 s; 2,000 tokens read at 0.001 each, 975 written at 0.002.
    assert capsys.readouterr().out == (
        "translate en-ka (vllm)  200/1,000 sentences, 20/s, 98 tokens/s written, engines busy 90 %, "
        "without translation: 3 empty, 2 timeout, 0.02 GPU-hours, cost 4.03, to go 0:40\n"
    )
    assert meter.counts() == {
        "sentences": 200, "input_tokens": 2000, "output_tokens": 975, "engine_seconds": 18.0, "seconds": 10.0,
        "gpu_hours": 0.022, "cost": 4.03,
    }  # fmt: skip


def test_the_last_line_is_printed_whenever_it_comes(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    meter = TranslationMeter("t", 10, engines=1, gpus=0, price=PriceOptions())
    clock[0] += 1
    meter.add(done(10, 10, 0.5))
    assert capsys.readouterr().out == "t  10/10 sentences, 10/s, 50 tokens/s written, engines busy 50 %\n"


def test_a_sample_tells_what_the_whole_takes(clock: list[float]) -> None:
    meter = TranslationMeter("sample", 10, engines=1, gpus=0, price=PriceOptions())
    clock[0] += 3
    meter.add(done(10, 9, 2.0, empty=1))
    lines = list(forecast([("a", "A"), ("b", "(empty)")], meter, 36_000, engines=2, gpus=4, price=PRICE))
    assert lines == [
        "  a\n    -> A",
        "  b\n    -> (empty)",
        "a sentence of the sample: 200.0 ms of an engine, 10.0 tokens read and 4.5 written; 9 of 10 ok",
        # 36,000 x 0.2 s / 2 engines = an hour, on 8 GPUs; 360,000 tokens at 0.001, 162,000 at 0.002, 8 GPU-hours at 3.6
        "the whole, by that: 36,000 sentences, 1:00:00 with 2 engines, start apart, 360,000 tokens read, 162,000 "
        "written, 8.0 GPU-hours, cost 712.80",
    ]
