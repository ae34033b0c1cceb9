"""What libsndfile does not know (m4a, webm, aac, amr, wma), by FFmpeg through PyAV, the extra `av`."""

import io
from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

EXTENSIONS: Final = (".m4a", ".mp4", ".webm", ".mkv", ".mka", ".aac", ".amr", ".wma")

_TOLERANCE: Final = 0.1  # seconds: encoders pad

_KINDS: Final[dict[str, Callable[[bytes], bool]]] = {
    "an m4a or mp4 file": lambda data: data[4:8] == b"ftyp",
    "a webm or mkv file": lambda data: data[:4] == b"\x1a\x45\xdf\xa3",
    "an aac file": lambda data: data[0] == 0xFF and data[1:2] != b"" and data[1] & 0xF6 == 0xF0,
    "an amr file": lambda data: data[:5] == b"#!AMR",
    "a wma file": lambda data: data[:4] == b"\x30\x26\xb2\x75",
}


def kind_of(data: bytes) -> str | None:
    """What the bytes (at least one) are, if FFmpeg is to read them."""
    return next((kind for kind, known in _KINDS.items() if known(data)), None)


def decoder() -> str:
    """The version of FFmpeg's decoders."""
    try:
        import av
    except ImportError:
        return "FFmpeg, not installed"
    return f"FFmpeg libavcodec {'.'.join(map(str, av.library_versions['libavcodec']))}"


def read(data: bytes) -> tuple[npt.NDArray[np.float32], int]:
    """The first audio stream of a file, the mean of its channels: float32 of shape (N,), and its rate in Hz.

    Raises:
        ImportError: PyAV is not installed.
        ValueError: it cannot be decoded to its end.
    """
    import av

    try:
        with av.open(io.BytesIO(data)) as container:
            stream = container.streams.audio[0]
            floats = av.AudioResampler(format="fltp", rate=stream.rate)
            frames = [part for frame in container.decode(stream) for part in floats.resample(frame)]
            blocks = [part.to_ndarray().mean(axis=0) for part in (*frames, *floats.resample(None))]
            # These say how long they are; a file cut off after its header is decoded without an error.
            exact = container.format.name.startswith(("mov", "matroska"))
            declared = (container.duration or 0) / av.time_base if exact else 0.0
    except (av.FFmpegError, IndexError, ValueError) as error:
        raise ValueError(str(error).splitlines()[0]) from None
    wave = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    if len(wave) < (declared - _TOLERANCE) * stream.rate:
        raise ValueError(f"{len(wave) / stream.rate:.2f} s of {declared:.2f} s can be decoded")
    return np.asarray(wave, np.float32), int(stream.rate)
