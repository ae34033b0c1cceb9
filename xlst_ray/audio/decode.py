"""Decoding: bytes of a sound file to a mono wave, to 16 kHz, to the FLAC that shards hold, and back.

Decoders differ, and a corpus decoded twice may differ from itself (fairseq issue 3310: VBR MP3 through two decoders,
BLEU 26 and 4). So sources are decoded once, here: by libsndfile, and what it does not know by FFmpeg. The decoder's
version is part of a corpus' fingerprint and stands in the manifest.
"""

import io
import struct
from fractions import Fraction
from functools import partial
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import soundfile
import torch

from xlst_ray.audio import ffmpeg
from xlst_ray.audio.mp3 import with_length
from xlst_ray.errors import DataError

Wave = npt.NDArray[np.float32]
AudioReason = Literal[
    "missing",
    "unreadable",
    "empty-file",
    "not-audio",
    "unsupported-format",
    "truncated",
    "segment-past-end",
    "zero-length",
    "non-finite",
    "too-long",
]

DECODER: Final = f"libsndfile {soundfile.__libsndfile_version__}"
END_TOLERANCE: Final = 0.1  # seconds: rounded durations and lossy codecs' padding pass the end of a file by less

_BLOCK: Final = 1 << 20  # frames read at once: a header's frame count may be unknown or a lie
_UNKNOWN_LENGTH: Final = 1 << 40  # frames: what libsndfile gives for a FLAC stream of unknown length is far above
_STREAMED_RIFF: Final = 0x7FFFF000  # bytes: from here up, sizes are what encoders write when they cannot seek back
_RATES: Final = (4_000, 384_000)  # Hz
_RATIO_LIMIT: Final = 640  # 11,025 Hz is 441/640 of 16 kHz; odder rates are approximated to better than 3 ppm
_CONVERT_HINT: Final = "convert it first, for instance with `ffmpeg -i INPUT -ac 1 -ar 16000 OUTPUT.flac`"


class AudioError(DataError):
    """A recording that cannot be used. `reason` is the key that rejected clips are counted by."""

    def __init__(self, what: str, *, reason: AudioReason, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(what, where=where, hint=hint)
        self.reason: AudioReason = reason

    def __reduce__(self) -> tuple[object, ...]:
        return partial(AudioError, reason=self.reason, where=self.where, hint=self.hint), (self.what,)


class Sound:
    """A recording, opened once to cut any number of segments from it.

    Attributes:
        decoder: which library reads it, with its version.
    """

    def __init__(self, data: bytes) -> None:
        """Open the bytes of a whole file: WAV, FLAC, MP3, Ogg Vorbis or Opus, and whatever else libsndfile reads; by
        FFmpeg, where the extra `av` is installed, m4a, webm, aac, amr and wma.

        Raises:
            AudioError: with every reason but `missing` and `unreadable`.
        """
        if not data:
            raise AudioError("the file is empty", reason="empty-file")
        _refuse_truncated(data)
        if (kind := ffmpeg.kind_of(data)) is not None:
            self.decoder, data = ffmpeg.decoder(), _as_wav(data, kind)
        else:
            self.decoder, data = DECODER, with_length(data)
        self._data = data
        self._open()

    def segment(
        self, *, offset: float = 0.0, duration: float | None = None, at_most: float | None = None
    ) -> tuple[Wave, int]:
        """Decode a segment; the mean of the channels. Segments of all formats are those of the whole to 1e-6.

        Args:
            offset: start of the segment, seconds.
            duration: length of the segment, seconds; none: to the end of the file.
            at_most: refuse a longer segment (seconds) before it fills the memory.

        Returns:
            The wave, float32 in [-1, 1] of shape (N,), and its sample rate in Hz.

        Raises:
            AudioError: as when opening.
        """
        if self._file.frames >= _UNKNOWN_LENGTH:
            self._open()  # a stream that ends where nobody knew cannot be wound back
        wave, rate = _read_segment(self._file, offset, duration, at_most), int(self._file.samplerate)
        if not len(wave):
            raise AudioError("holds no samples", reason="zero-length")
        if not np.isfinite(wave).all():
            raise AudioError("holds samples that are not finite numbers", reason="non-finite")
        return wave, rate

    def _open(self) -> None:
        try:
            self._file = _ForwardFile(io.BytesIO(self._data))
        except soundfile.LibsndfileError as error:
            raise _unreadable(error) from None


def decode(
    data: bytes, *, offset: float = 0.0, duration: float | None = None, at_most: float | None = None
) -> tuple[Wave, int]:
    """One segment of the bytes of a file: `Sound(data).segment(...)`."""
    return Sound(data).segment(offset=offset, duration=duration, at_most=at_most)


def decoder_of(name: str) -> str:
    """The decoder, with its version, of a file of this name."""
    return ffmpeg.decoder() if name.lower().endswith(ffmpeg.EXTENSIONS) else DECODER


def resample(wave: Wave, rate: int, target: int) -> Wave:
    """Change the sample rate with torchaudio's windowed-sinc filter. (N,) -> (ceil(N * target / rate),)."""
    if rate == target:
        return wave
    # Imported here: reading shards needs no torchaudio, and importing it takes a second.
    from xlst_ray.audio._torchaudio import functional

    # The filter bank has one row for each phase of the reduced ratio; coprime rates would make it gigabytes large.
    ratio = Fraction(rate, target).limit_denominator(_RATIO_LIMIT)
    resampled = functional.resample(torch.from_numpy(wave), ratio.numerator, ratio.denominator)
    return np.asarray(resampled.numpy(), dtype=np.float32)


def encode_flac(wave: Wave, rate: int = 16_000) -> bytes:
    """16-bit FLAC of a wave (N,) in [-1, 1]; louder samples are clipped, nothing is dithered."""
    samples = np.clip(np.rint(wave * 32768.0), -32768, 32767).astype(np.int16)
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def decode_flac(data: bytes) -> Wave:
    """A shard's recording as float32 (N,) in [-1, 1]: what `encode_flac` was given, rounded to 16 bits.

    Raises:
        AudioError: `not-audio`, as the shard is damaged.
    """
    try:
        wave, _ = soundfile.read(io.BytesIO(data), dtype="float32")
    except soundfile.LibsndfileError as error:
        raise AudioError(f"a shard's audio is not FLAC ({error.error_string})", reason="not-audio") from None
    return np.asarray(wave, dtype=np.float32)


class _ForwardFile(soundfile.SoundFile):  # type: ignore[misc]
    """Reads blocks without a seek after each, which fails at the end of a FLAC stream of unknown length."""

    def seekable(self) -> bool:
        return False


def _read_segment(file: _ForwardFile, offset: float, duration: float | None, at_most: float | None) -> Wave:
    rate, declared = file.samplerate, file.frames if file.frames < _UNKNOWN_LENGTH else None
    if not _RATES[0] <= rate <= _RATES[1]:
        raise AudioError(f"has a sample rate of {rate} Hz", reason="unsupported-format", hint=_CONVERT_HINT)
    start, wanted = round(offset * rate), None if duration is None else round(duration * rate)
    tolerance = END_TOLERANCE * rate
    if declared is not None:
        if start + (wanted or 0) > declared + tolerance or (start and start >= declared):
            raise _past_end(offset, duration, declared / rate)
        rest = declared - start
        wanted = rest if wanted is None else min(wanted, rest)
    limit = None if at_most is None else round(at_most * rate)
    if limit is not None and wanted is not None and wanted > limit:
        raise AudioError(f"lasts {wanted / rate:.1f} s, more than {at_most:g} s", reason="too-long")
    wave = _read_frames(file, start, wanted, limit)
    if declared is None and wanted is not None and len(wave) < wanted - tolerance:
        raise _past_end(offset, duration, (start + len(wave)) / rate)
    # Of MP3 only: its frame count stands in a tag that encoders round, where the others' is exact.
    allowed = tolerance if file.format == "MP3" else 0
    if declared is not None and wanted is not None and len(wave) < wanted - allowed:
        raise AudioError(
            f"is cut off or damaged: {len(wave) / rate:.2f} s of {wanted / rate:.2f} s can be decoded",
            reason="truncated",
        )
    return wave


def _read_frames(file: _ForwardFile, start: int, wanted: int | None, limit: int | None) -> Wave:
    """Up to `wanted` frames from `start`, the mean of the channels."""
    blocks: list[Wave] = []
    count = 0
    try:
        _go_to(file, start)
        while wanted is None or count < wanted:
            block = file.read(_BLOCK if wanted is None else min(_BLOCK, wanted - count), "float32", always_2d=True)
            if not len(block):
                break
            count += len(block)
            if limit is not None and count > limit:
                raise AudioError(f"lasts more than {limit / file.samplerate:g} s", reason="too-long")
            blocks.append(block[:, 0] if block.shape[1] == 1 else block.mean(axis=1))
    except soundfile.LibsndfileError as error:
        raise AudioError(f"is cut off or damaged ({error.error_string})", reason="truncated") from None
    if len(blocks) == 1:
        return blocks[0]
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def _go_to(file: _ForwardFile, start: int) -> None:
    if file.tell() == start:
        return
    # An MP3 frame needs up to 511 bytes of the frames before it, a Vorbis block laps over the one before it, an Opus
    # decoder converges: what comes right after a seek is wrong.
    roll = min(start, file.samplerate) if file.format in ("MP3", "OGG") else 0
    file.seek(start - roll)
    file.read(roll)


def _past_end(offset: float, duration: float | None, length: float) -> AudioError:
    end = offset + (duration or 0.0)
    return AudioError(
        f"the segment {offset:g}-{end:g} s passes the end of the file at {length:.2f} s", reason="segment-past-end"
    )


def _unreadable(error: soundfile.LibsndfileError) -> AudioError:
    if error.code == 4:  # SF_ERR_UNSUPPORTED_ENCODING
        return AudioError(f"cannot be read ({error.error_string})", reason="unsupported-format", hint=_CONVERT_HINT)
    return AudioError(f"is not audio ({error.error_string})", reason="not-audio")


def _as_wav(data: bytes, kind: str) -> bytes:
    """What FFmpeg decodes, once and whole: its seeking is not exact to the sample."""
    try:
        wave, rate = ffmpeg.read(data)
    except ImportError:
        raise AudioError(
            f"is {kind}, which is read with PyAV: pip install -e '.[av]'",
            reason="unsupported-format",
            hint=f"or {_CONVERT_HINT}",
        ) from None
    except ValueError as error:
        raise AudioError(f"is {kind} that FFmpeg cannot read ({error})", reason="truncated") from None
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, rate, format="WAV", subtype="FLOAT")
    return buffer.getvalue()


def _refuse_truncated(data: bytes) -> None:
    """Containers that libsndfile reads as if they were whole when their end is missing: WAV and Ogg."""
    lacking = 0
    if data[:4] == b"RIFF":
        lacking = _lacking_wav(data)
    elif data[:4] == b"OggS":
        lacking = _lacking_ogg(data)
    if lacking > 0:
        raise AudioError(f"is cut off: at least {lacking} bytes are missing at its end", reason="truncated")


def _lacking_wav(data: bytes) -> int:
    """Bytes by which the data chunk passes the end of the file."""
    position = 12
    while position + 8 <= len(data):
        size = struct.unpack_from("<I", data, position + 4)[0]
        if data[position : position + 4] == b"data":
            return 0 if size >= _STREAMED_RIFF else position + 8 + size - len(data)
        position += 8 + size + size % 2
    return position + 8 - len(data)


def _lacking_ogg(data: bytes) -> int:
    """Bytes by which the last page passes the end of the file (RFC 3533: a 27-byte header, a table of lengths)."""
    page = data.rfind(b"OggS")
    if page + 27 > len(data):
        return page + 27 - len(data)
    segments = data[page + 26]
    table = data[page + 27 : page + 27 + segments]
    return page + 27 + segments + sum(table) - len(data)
