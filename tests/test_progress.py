import json

import pytest

from xlst_ray import progress
from xlst_ray.progress import Ticker, clock, say


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    time = Clock()
    monkeypatch.setattr(progress, "time", time)
    return time


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00"),
        (59.4, "0:59"),
        (59.6, "1:00"),
        (61, "1:01"),
        (3599.6, "1:00:00"),
        (3723, "1:02:03"),
        (90_000, "25:00:00"),
    ],
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_a_line_is_said_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    say("half way")
    assert capfd.readouterr().out == "half way\n"


def test_ticker_says_how_far_and_how_long_to_go(time: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    ticker = Ticker("prepare en", 4, "shards")
    time.now += 10
    ticker.tick()
    assert capsys.readouterr().out == "prepare en  1/4 shards, to go 0:30\n"


def test_ticker_is_quiet_between_lines_but_for_the_last(time: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    ticker = Ticker("work", 100, "items")
    for _ in range(100):
        time.now += 1
        ticker.tick()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == [f"{done}/100" for done in range(5, 101, 5)]
    assert lines[-1] == "work  100/100 items, to go 0:00"


def test_the_last_item_gets_its_line_however_fast(time: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    ticker = Ticker("work", 3, "items")
    for _ in range(3):
        ticker.tick()
    assert capsys.readouterr().out == "work  3/3 items, to go 0:00\n"


def test_a_line_as_json_tells_where_it_comes_from(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"XLST_LOG": "json", "XLST_RUN": "night", "XLST_STAGE": ""}.items():
        monkeypatch.setenv(name, value)
    with progress.in_stage("asr-fi-0123456789ab"):
        say("loss 1.5\n  of é")
        there = progress.place()
    say("between")
    first, second = (json.loads(line) for line in capfd.readouterr().out.splitlines())
    assert first.pop("time").endswith("+00:00")
    assert first == {"run": "night", "stage": "asr-fi-0123456789ab", "message": "loss 1.5\n  of é"}
    assert second["stage"] == ""
    progress.take_place(there)
    assert progress.where_we_are() == {"run": "night", "stage": "asr-fi-0123456789ab"}


def test_a_run_without_a_name_gets_one_that_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XLST_RUN", raising=False)
    assert progress.where_we_are()["run"].startswith("run-")
    assert progress.where_we_are() == progress.where_we_are()
