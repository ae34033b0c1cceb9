"""Decoding against soundfile's and torchaudio's own results, and every kind of clip that cannot be used."""

import io
import pickle
import struct
import sys
from contextlib import suppress

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xlst_ray.audio._torchaudio import functional
from xlst_ray.audio.decode import DECODER, AudioError, Sound, decode, decode_flac, decoder_of, encode_flac, resample
from xlst_ray.audio.mp3 import with_length
from xlst_ray.errors import DataError


def tone(seconds: float = 1.5, rate: int = 22_050, channels: int = 1) -> np.ndarray:
    times = np.arange(round(seconds * rate))[:, None] / rate
    waves = 0.3 * np.sin(2 * np.pi * (200 + 150 * np.arange(channels)) * times)
    return (waves + 0.03 * np.random.default_rng(0).standard_normal(waves.shape)).astype(np.float32)


def encoded(container: str = "WAV", subtype: str | None = None, *, rate: int = 22_050, **options: object) -> bytes:
    buffer = io.BytesIO()
    wave = options.pop("wave", None)
    samples = tone(rate=rate, channels=int(options.pop("channels", 1))) if wave is None else wave
    soundfile.write(buffer, samples, rate, format=container, subtype=subtype, **options)
    return buffer.getvalue()


FORMATS = {
    "wav-16": ("WAV", "PCM_16", 22_050, 1),
    "wav-24-stereo": ("WAV", "PCM_24", 44_100, 2),
    "wav-float": ("WAV", "FLOAT", 8_000, 1),
    "flac-stereo": ("FLAC", None, 48_000, 2),
    "mp3-stereo": ("MP3", "MPEG_LAYER_III", 44_100, 2),
    "mp3-mono": ("MP3", "MPEG_LAYER_III", 22_050, 1),
    "vorbis": ("OGG", "VORBIS", 32_000, 2),
    "opus": ("OGG", "OPUS", 48_000, 1),
}


@pytest.fixture(params=FORMATS.values(), ids=FORMATS.keys())
def sound(request: pytest.FixtureRequest) -> bytes:
    container, subtype, rate, channels = request.param
    return encoded(container, subtype, rate=rate, channels=channels)


def test_decodes_each_format_to_the_mean_of_its_channels(sound: bytes) -> None:
    expected, expected_rate = soundfile.read(io.BytesIO(sound), dtype="float32", always_2d=True)
    wave, rate = decode(sound)
    assert rate == expected_rate
    assert wave.dtype == np.float32
    np.testing.assert_allclose(wave, expected.mean(axis=1), atol=1e-6)
    assert abs(len(wave) / rate - 1.5) < 0.01


def test_a_segment_is_that_part_of_the_whole(sound: bytes) -> None:
    whole, rate = decode(sound)
    segment, _ = decode(sound, offset=0.5, duration=0.75)
    start = round(0.5 * rate)
    np.testing.assert_allclose(segment, whole[start : start + round(0.75 * rate)], atol=1e-6)


def test_a_segment_without_duration_reaches_the_end(sound: bytes) -> None:
    whole, rate = decode(sound)
    np.testing.assert_allclose(decode(sound, offset=1.0)[0], whole[rate:], atol=1e-6)


def test_a_duration_rounded_up_is_cut_at_the_end() -> None:
    wave, rate = decode(encoded(), duration=1.59)
    assert len(wave) == round(1.5 * rate)


def vbr_mp3_without_a_tag() -> tuple[bytes, int]:
    """Silence, then noise, so that the first frame's bit rate says nothing of the rest; its frames, and their count."""
    noise = 0.5 * np.random.default_rng(0).standard_normal(44_100)
    wave = np.concatenate([np.zeros(22_050), noise, np.zeros(22_050)]).astype(np.float32)
    tagged = encoded("MP3", "MPEG_LAYER_III", rate=44_100, wave=wave, bitrate_mode="VARIABLE", compression_level=0.5)
    tag = max(tagged.find(b"Xing"), tagged.find(b"Info"))
    count = int.from_bytes(tagged[tag + 8 : tag + 12], "big")
    return tagged[tagged.index(b"\xff\xfb", tag) :], count


@pytest.mark.parametrize("id3", [b"", b"ID3\x03\x00\x00" + bytes([0, 0, 1, 2]) + bytes(130)], ids=["plain", "id3"])
def test_a_vbr_mp3_without_a_length_is_decoded_whole(id3: bytes) -> None:
    data, frames = vbr_mp3_without_a_tag()
    guessed = soundfile.info(io.BytesIO(data)).frames
    assert abs(guessed - frames * 1152) > 10_000, "libsndfile no longer guesses: the work-around can go"
    wave, _ = decode(id3 + data)
    assert abs(len(wave) - frames * 1152) <= 2 * 1152
    assert np.abs(wave[-11_025:]).max() < 0.05 < np.abs(wave[33_000:55_000]).max()


def test_a_length_is_added_only_to_an_mp3_that_lacks_one(sound: bytes) -> None:
    assert with_length(sound) == sound
    bare, _ = vbr_mp3_without_a_tag()
    assert with_length(with_length(bare)) == with_length(bare) != bare


@settings(deadline=None)  # PyAV is imported
@given(st.binary(max_size=400))
def test_any_bytes_are_refused_with_a_reason_or_decoded(data: bytes) -> None:
    for start in (b"", b"RIFF", b"OggS", b"fLaC", b"\xff\xfb", b"ID3"):
        with suppress(AudioError):
            wave, rate = decode(start + data)
            assert len(wave)
            assert rate


def test_flac_of_unknown_length_is_decoded_to_its_end() -> None:
    data = bytearray(encoded("FLAC"))
    data[21] &= 0xF0  # the low 36 bits of these bytes of STREAMINFO count the samples; 0 is unknown
    data[22:26] = bytes(4)
    whole, rate = decode(bytes(data))
    assert len(whole) == 33_075
    assert len(decode(bytes(data), offset=0.5, duration=0.5)[0]) == round(0.5 * rate)
    assert reason_of(bytes(data), offset=1.0, duration=1.0) == "segment-past-end"
    assert reason_of(bytes(data), at_most=1.0) == "too-long"


def test_wav_of_a_writer_that_could_not_seek_back() -> None:
    data = bytearray(encoded())
    data[4:8] = data[40:44] = b"\xff" * 4
    assert len(decode(bytes(data))[0]) == 33_075


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
def test_segments_of_a_long_mp3_are_exact(mode: str) -> None:
    rng = np.random.default_rng(1)
    loudness = np.repeat(rng.uniform(0, 0.5, 60), 11_025)
    wave = (loudness * rng.standard_normal(len(loudness))).clip(-1, 1).astype(np.float32)
    data = encoded("MP3", "MPEG_LAYER_III", rate=22_050, wave=wave, bitrate_mode=mode, compression_level=0.9)
    whole, rate = decode(data)
    for offset in (0.01, 0.77, 7.123, 15.5, 29.2):
        segment, _ = decode(data, offset=offset, duration=0.5)
        start = round(offset * rate)
        np.testing.assert_allclose(segment, whole[start : start + len(segment)], atol=1e-6)


def reason_of(data: bytes, **segment: float) -> str:
    with pytest.raises(AudioError) as caught:
        decode(data, **segment)
    return caught.value.reason


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty-file"),
        (b"<!DOCTYPE html><html><body>404 Not Found</body></html>" * 20, "not-audio"),
        (b"\xff\xd8\xff\xe0" + bytes(range(256)) * 8, "not-audio"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "not-audio"),
        (b"\0\0\0\x20ftypM4A " + bytes(500), "truncated"),
        (b"\x1a\x45\xdf\xa3" + bytes(500), "truncated"),
        (b"\xff\xf1\x50\x80" + bytes(500), "truncated"),
        (encoded(wave=tone(0.0)), "zero-length"),
        (encoded("WAV", "FLOAT", wave=np.array([0.1, np.nan, 0.2], np.float32)), "non-finite"),
        (encoded("WAV", "FLOAT", wave=np.array([0.1, np.inf, 0.2], np.float32)), "non-finite"),
        (encoded(rate=2_000), "unsupported-format"),
    ],
)
def test_what_is_no_usable_audio_says_why(data: bytes, reason: str) -> None:
    assert reason_of(data) == reason


def with_ffmpeg(container: str, codec: str, rate: int = 44_100, channels: int = 2) -> bytes:
    """A tone, by the extra `av`."""
    import av

    buffer = io.BytesIO()
    wave = tone(rate=rate, channels=channels)
    with av.open(buffer, "w", format=container) as file:
        layout = {1: "mono", 2: "stereo"}[channels]
        stream = file.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave.T), format="fltp", layout=layout)
        frame.rate = rate
        resampler = av.AudioResampler(format=stream.format, layout=layout, rate=rate)
        parts = [part for given in (frame, None) for part in resampler.resample(given)]
        for packet in (packet for part in (*parts, None) for packet in stream.encode(part)):
            file.mux(packet)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("container", "codec", "rate", "channels"),
    [("mp4", "aac", 44_100, 2), ("mp4", "aac", 16_000, 1), ("webm", "libopus", 48_000, 2), ("adts", "aac", 22_050, 1)],
)
def test_what_ffmpeg_reads_is_the_tone_that_was_written(container: str, codec: str, rate: int, channels: int) -> None:
    sound = Sound(with_ffmpeg(container, codec, rate, channels))
    assert sound.decoder == decoder_of(f"clip.{'m4a' if container == 'mp4' else 'webm'}")
    wave, found = sound.segment()
    assert found == rate
    assert len(wave) / rate == pytest.approx(1.5, abs=0.12)
    spectrum = np.abs(np.fft.rfft(wave[: rate // 2 * 2]))
    assert spectrum.argmax() / len(wave[: rate // 2 * 2]) * rate == pytest.approx(200 if channels == 1 else 275, abs=80)
    part, _ = sound.segment(offset=0.5, duration=0.25)
    np.testing.assert_array_equal(part, wave[round(0.5 * rate) : round(0.5 * rate) + round(0.25 * rate)])
    assert reason_of(with_ffmpeg(container, codec, rate, channels), offset=9.0) == "segment-past-end"


@pytest.mark.parametrize(("container", "codec"), [("mp4", "aac"), ("webm", "libopus")])
def test_what_ffmpeg_reads_is_truncated_where_its_end_is_missing(container: str, codec: str) -> None:
    data = with_ffmpeg(container, codec, 48_000)
    assert {reason_of(data[: int(len(data) * share)]) for share in (0.1, 0.5, 0.8)} == {"truncated"}


def test_without_the_extra_an_m4a_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    data = with_ffmpeg("mp4", "aac")
    monkeypatch.setitem(sys.modules, "av", None)  # importing it raises ImportError
    with pytest.raises(AudioError, match=r"m4a.*pip install -e '\.\[av\]'") as caught:
        decode(data)
    assert caught.value.reason == "unsupported-format"
    assert "ffmpeg -i" in str(caught.value)
    assert decoder_of("x.m4a") == "FFmpeg, not installed"


@pytest.mark.parametrize("rate", [8_000, 12_000, 16_000, 24_000, 48_000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_opus_at_any_rate_and_number_of_channels(rate: int, channels: int) -> None:
    wave, found = decode(encoded("OGG", "OPUS", rate=rate, channels=channels))
    seconds = len(wave) / found
    assert seconds == pytest.approx(1.5, abs=0.02)
    spectrum = np.abs(np.fft.rfft(wave))
    pitches = [200 + 150 * channel for channel in range(channels)]
    assert min(abs(spectrum.argmax() / seconds - pitch) for pitch in pitches) < 2


def test_segments_of_one_opened_recording_in_any_order(sound: bytes) -> None:
    whole, rate = decode(sound)
    opened = Sound(sound)
    for offset, duration in ((0.9, 0.3), (0.1, 0.5), (1.2, 0.3), (0.1, 0.5), (0.0, 1.5)):
        with suppress(AudioError):  # which leaves the next segment as it is
            opened.segment(offset=9.0)
        segment, _ = opened.segment(offset=offset, duration=duration)
        start = round(offset * rate)
        np.testing.assert_allclose(segment, whole[start : start + len(segment)], atol=1e-6)
        assert len(segment) >= min(round(duration * rate), len(whole) - start)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_a_file_cut_off_is_truncated(sound: bytes, share: float) -> None:
    assert reason_of(sound[: int(len(sound) * share)]) == "truncated"


@pytest.mark.parametrize("container", ["WAV", "FLAC", "OGG"])
def test_one_byte_lacking_is_truncated(container: str) -> None:
    assert reason_of(encoded(container)[:-1]) == "truncated"


def test_a_wav_cut_in_its_header_is_truncated() -> None:
    assert reason_of(encoded()[:30]) == "truncated"


def test_a_chunk_after_the_samples_is_not_missing_samples() -> None:
    extra = b"LIST" + struct.pack("<I", 4) + b"INFO"
    assert len(decode(encoded() + extra)[0]) == 33_075


@pytest.mark.parametrize(("offset", "duration"), [(1.0, 0.7), (1.6, None), (1.55, 0.01), (0.0, 2.0)])
def test_a_segment_past_the_end(sound: bytes, offset: float, duration: float | None) -> None:
    assert reason_of(sound, offset=offset, duration=duration) == "segment-past-end"


def test_more_than_the_limit_is_refused_and_a_short_segment_is_not(sound: bytes) -> None:
    assert reason_of(sound, at_most=1.0) == "too-long"
    wave, rate = decode(sound, offset=0.2, duration=0.5, at_most=1.0)
    assert len(wave) == round(0.5 * rate)


def test_messages_do_not_differ_from_call_to_call() -> None:
    messages = set()
    for _ in range(3):
        with pytest.raises(AudioError) as caught:
            decode(b"not audio at all, not at all")
        messages.add(str(caught.value))
    assert len(messages) == 1


def test_the_error_crosses_processes_whole() -> None:
    error = AudioError("is cut off", reason="truncated", where="a.wav", hint="fetch it again")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301  our own object, as Ray sends it
    assert isinstance(copy, DataError)
    assert (copy.what, copy.reason, copy.where, copy.hint) == (error.what, error.reason, error.where, error.hint)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000])
def test_resampling_is_torchaudios(rate: int) -> None:
    wave = tone(0.7, rate)[:, 0]
    expected = functional.resample(torch.from_numpy(wave), rate, 16_000).numpy()
    np.testing.assert_array_equal(resample(wave, rate, 16_000), expected)


def test_coprime_rates_keep_length_and_pitch_without_gigabytes_of_filters() -> None:
    rate = 44_101
    wave = np.sin(2 * np.pi * 1000 * np.arange(2 * rate) / rate).astype(np.float32)
    resampled = resample(wave, rate, 16_000)
    assert abs(len(resampled) - 32_000) <= 1
    spectrum = np.abs(np.fft.rfft(resampled * np.hanning(len(resampled))))
    assert abs(spectrum.argmax() * 16_000 / len(resampled) - 1000) < 1


def test_resampling_to_the_same_rate_changes_nothing() -> None:
    wave = tone()[:, 0]
    assert resample(wave, 16_000, 16_000) is wave


@given(st.lists(st.integers(-32768, 32767), min_size=1, max_size=300))
def test_flac_keeps_16_bit_samples(samples: list[int]) -> None:
    wave = np.array(samples, np.float32) / 32768
    np.testing.assert_array_equal(decode_flac(encode_flac(wave)), wave)


def test_flac_clips_what_is_too_loud_and_is_mono_16_khz() -> None:
    data = encode_flac(np.array([2.0, -2.0, 0.25], np.float32))
    np.testing.assert_array_equal(decode_flac(data), np.array([32767 / 32768, -1.0, 0.25], np.float32))
    info = soundfile.info(io.BytesIO(data))
    assert (info.samplerate, info.channels, info.format, info.subtype) == (16_000, 1, "FLAC", "PCM_16")


def test_a_damaged_shard_says_so() -> None:
    with pytest.raises(AudioError, match="shard"):
        decode_flac(b"fLaC" + bytes(40))


def test_the_decoder_names_its_versions() -> None:
    assert f"libsndfile {soundfile.__libsndfile_version__}" == DECODER == decoder_of("a/b.MP3")
    assert decoder_of("a/b.M4A").startswith("FFmpeg")
