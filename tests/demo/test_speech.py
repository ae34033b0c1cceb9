import hashlib
import io
import subprocess
import sys
import wave
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from xlst_ray.demo import speech
from xlst_ray.demo.speech import Room, Speaker, render, synthesise, url_of
from xlst_ray.demo.voices import HEARD, UNHEARD
from xlst_ray.errors import ConfigError, DataError

TEXT = "keittiössä on viisi punaista kirjaa"
SPEAKER = Speaker("f1", pitch=50, range=50, rate=170)
ROOM = Room(snr=30.0, peak=0.5, seed=7)


def test_a_sentence_has_a_plausible_length_and_energy() -> None:
    samples, rate = synthesise(TEXT, "fi", SPEAKER)
    assert rate == 22_050
    assert samples.dtype == np.int16
    assert 1.2 < len(samples) / rate < 3.0
    assert 500 < np.sqrt(np.mean(samples.astype(float) ** 2)) < 10_000


@pytest.mark.parametrize("variant", HEARD + UNHEARD)
def test_each_variant_speaks_the_same_again_after_another_sentence(variant: str) -> None:
    """espeak-ng carries flutter, echo and noise over from one sentence to the next."""
    speaker = replace(SPEAKER, variant=variant)
    first, _ = synthesise(TEXT, "fi", speaker)
    synthesise("the woman put the knife on the table", "en", replace(speaker, pitch=70))
    again, _ = synthesise(TEXT, "fi", speaker)
    assert len(first) > 0
    np.testing.assert_array_equal(first, again)


def test_another_process_makes_the_same_bytes() -> None:
    url = url_of(TEXT, "fi", SPEAKER, ROOM)
    code = (
        f"import hashlib; from xlst_ray.demo.speech import render; print(hashlib.sha256(render({url!r})).hexdigest())"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == hashlib.sha256(render(url)).hexdigest()


def test_threads_do_not_disturb_each_other() -> None:
    urls = [url_of(TEXT, "fi", replace(SPEAKER, pitch=pitch), ROOM) for pitch in range(30, 70, 2)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(render, urls)) == [render(url) for url in urls]


@pytest.mark.parametrize(
    "other", [{"variant": "m3"}, {"pitch": 70}, {"rate": 200}, {"range": 20}], ids=lambda change: next(iter(change))
)
def test_speakers_differ_in_each_of_their_traits(other: dict[str, object]) -> None:
    first, _ = synthesise(TEXT, "fi", SPEAKER)
    second, _ = synthesise(TEXT, "fi", replace(SPEAKER, **other))  # type: ignore[arg-type]
    assert len(first) != len(second) or not np.array_equal(first, second)


def test_faster_is_shorter_and_pitch_raises_the_fundamental() -> None:
    slow, fast = (synthesise(TEXT, "fi", replace(SPEAKER, rate=rate))[0] for rate in (140, 210))
    assert len(fast) < 0.8 * len(slow)
    low, high = (fundamental(*synthesise("aaa", "fi", replace(SPEAKER, pitch=pitch, range=0))) for pitch in (30, 70))
    assert high > 1.2 * low


def fundamental(samples: speech.Samples, rate: int) -> float:
    """The strongest period of 2 to 15 ms, by autocorrelation."""
    wave_ = samples.astype(float)
    same = np.correlate(wave_, wave_, "full")[len(wave_) - 1 :]
    shortest, longest = int(0.002 * rate), int(0.015 * rate)
    return rate / (shortest + int(np.argmax(same[shortest:longest])))


@pytest.mark.parametrize(("word", "other"), [("väärä", "vaara"), ("pöydällä", "poydalla")])
def test_finnish_letters_are_spoken(word: str, other: str) -> None:
    first, _ = synthesise(word, "fi", SPEAKER)
    second, _ = synthesise(other, "fi", SPEAKER)
    assert 0.5 < len(first) / len(second) < 2  # a letter it could not say would be spelt out by name
    assert not np.array_equal(first[: len(second)], second[: len(first)])


def test_a_url_holds_the_sentence_and_all_that_the_sound_depends_on() -> None:
    url = url_of("onko äidillä 50 % öljyä?", "fi", SPEAKER, ROOM)
    assert url.startswith("espeak:fi?")
    assert url.isascii()
    assert " " not in url
    assert render(url) == render(url)
    changed = [replace(ROOM, snr=20.0), replace(ROOM, peak=0.4), replace(ROOM, seed=8)]
    sounds = {render(url_of(TEXT, "fi", SPEAKER, room)) for room in [ROOM, *changed]}
    assert len(sounds) == 4


def test_the_wav_file_is_read_by_others() -> None:
    data = render(url_of(TEXT, "fi", SPEAKER, ROOM))
    samples, rate = soundfile.read(io.BytesIO(data), dtype="int16")
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getnchannels(), file.getframerate(), file.getnframes()) == (1, rate, len(samples))
    assert np.abs(samples).max() == round(0.5 * 32767)


@pytest.mark.parametrize("snr", [5.0, 20.0, 40.0])
def test_noise_stands_at_its_ratio(snr: float) -> None:
    clean, _ = synthesise(TEXT, "fi", SPEAKER, seed=ROOM.seed)
    noisy, _ = soundfile.read(io.BytesIO(render(url_of(TEXT, "fi", SPEAKER, replace(ROOM, snr=snr)))))
    gain = np.dot(noisy, clean) / np.dot(clean.astype(float), clean)
    noise = noisy - gain * clean
    assert 20 * np.log10(np.std(gain * clean) / np.std(noise)) == pytest.approx(snr, abs=0.3)


def test_a_missing_wheel_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    for call in (speech.version, lambda: synthesise(TEXT, "fi", SPEAKER)):
        with pytest.raises(ConfigError, match=r"pip install -e '\.\[demo\]'"):
            call()


@pytest.mark.parametrize(("lang", "variant"), [("fi", "nobody"), ("xx", "f1")])
def test_an_unknown_voice_is_refused_and_the_next_one_works(lang: str, variant: str) -> None:
    with pytest.raises(ConfigError, match=f"{lang}\\+{variant}"):
        synthesise(TEXT, lang, replace(SPEAKER, variant=variant))
    assert len(synthesise(TEXT, "fi", SPEAKER)[0]) > 0


@pytest.mark.parametrize(
    "url", ["espeak:fi#moi", "espeak:fi?variant=f1&pitch=x&range=1&rate=1&snr=1&peak=1&seed=1#moi"]
)
def test_a_url_without_its_voice_is_refused(url: str) -> None:
    with pytest.raises(DataError, match="espeak"):
        render(url)
