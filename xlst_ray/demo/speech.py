"""Speech of the demo: espeak-ng, called through ctypes, with a little noise, as WAV bytes named by a URL.

Library and voices come with the wheel `espeakng-loader` (extra `demo`; espeak-ng is GPL-3 and not part of us).
The URL says all that the sound depends on, so it is made where it is needed, and the same bytes everywhere.
"""

import _ctypes
import ctypes
import io
import os
import threading
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from types import ModuleType
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import numpy as np
import numpy.typing as npt

from xlst_ray.errors import ConfigError, DataError

SCHEME: Final = "espeak"

Samples = npt.NDArray[np.int16]

# espeak-ng's speak_lib.h.
_SYNCHRONOUS: Final = 2  # audio to the callback, before espeak_Synth returns
_DONT_EXIT: Final = 0x8000
_UTF8: Final = 1
_RATE, _PITCH, _RANGE = 1, 3, 4
_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)

_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Speaker:
    """A voice of espeak-ng.

    Attributes:
        variant: file of espeak-ng's `voices/!v`: `f3`, `m1`, `croak` ...
        pitch: 0 to 99, 50 the variant's own.
        range: of the pitch, 0 (monotone) to 99.
        rate: words a minute.
    """

    variant: str
    pitch: int
    range: int
    rate: int


@dataclass(frozen=True)
class Room:
    """How a voice is recorded.

    Attributes:
        snr: speech to white noise, dB.
        peak: of the recording, as a share of full scale.
        seed: of the noise and of the voice's breath.
    """

    snr: float
    peak: float
    seed: int


def synthesise(text: str, lang: str, speaker: Speaker, seed: int = 0) -> tuple[Samples, int]:
    """Speak a sentence: (16-bit samples (N,), sample rate in Hz). 3 ms for 2 s of speech.

    Raises:
        ConfigError: the wheel is missing, or espeak-ng has no such language or variant.
    """
    chunks: list[bytes] = []

    def receive(samples: "ctypes._Pointer[ctypes.c_short]", count: int, _events: object) -> int:
        if samples and count > 0:
            chunks.append(ctypes.string_at(samples, 2 * count))
        return 0

    with _one_at_a_time, _fresh_library() as (library, rate):
        callback = _Callback(receive)  # a name of its own keeps it alive while espeak-ng may call it
        library.espeak_SetSynthCallback(callback)
        library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
        voice = f"{lang}+{speaker.variant}"
        # espeak-ng says nothing of a variant that it does not have, and speaks without.
        if speaker.variant not in _variants() or library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ConfigError("espeak-ng has no such voice", where=voice)
        for parameter, value in ((_RATE, speaker.rate), (_PITCH, speaker.pitch), (_RANGE, speaker.range)):
            library.espeak_SetParameter(parameter, value, 0)
        data = text.encode()
        library.espeak_Synth(data, ctypes.c_size_t(len(data) + 1), 0, 1, 0, _UTF8, None, None)
    return np.frombuffer(b"".join(chunks), np.int16), rate


@contextmanager
def _fresh_library() -> Iterator[tuple[ctypes.CDLL, int]]:
    """espeak-ng with all its variables as at the start of a process, and its sample rate in Hz.

    Flutter, echo and noise go on from one sentence into the next, and nothing in its interface sets them back:
    only a library that is loaded anew speaks the same sentence the same way. It takes 1 ms.
    """
    espeakng_loader = _wheel()
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    try:
        rate = library.espeak_Initialize(_SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), _DONT_EXIT)
        if rate <= 0:
            raise ConfigError("espeak-ng does not start", where=espeakng_loader.get_data_path())
        yield library, rate
    finally:
        library.espeak_Terminate()
        _ctypes.dlclose(library._handle)


def _wheel() -> ModuleType:
    try:
        import espeakng_loader
    except ImportError:
        raise ConfigError("the demo's speech needs espeak-ng", hint="pip install -e '.[demo]'") from None
    return espeakng_loader  # type: ignore[no-any-return]


def _variants() -> list[str]:
    return os.listdir(os.path.join(_wheel().get_data_path(), "voices", "!v"))


def version() -> str:
    """The wheel's version: part of what the sound depends on. Raises `ConfigError` where the wheel is missing."""
    _wheel()
    return metadata.version("espeakng-loader")


def url_of(text: str, lang: str, speaker: Speaker, room: Room) -> str:
    """Where the recording of a sentence `lies`: `espeak:fi?variant=f3&...#text`."""
    return f"{SCHEME}:{lang}?{urlencode(asdict(speaker) | asdict(room))}#{quote(text)}"


def render(url: str) -> bytes:
    """The recording that an `espeak:` URL names: a WAV file, 16 bit, mono.

    Raises:
        DataError: not such a URL.
        ConfigError: as in `synthesise`.
    """
    text, lang, speaker, room = _parse(url)
    samples, rate = synthesise(text, lang, speaker, room.seed)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(_record(samples, room).tobytes())
    return buffer.getvalue()


def _parse(url: str) -> tuple[str, str, Speaker, Room]:
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    try:
        speaker = Speaker(query["variant"], int(query["pitch"]), int(query["range"]), int(query["rate"]))
        room = Room(float(query["snr"]), float(query["peak"]), int(query["seed"]))
    except (KeyError, ValueError):
        raise DataError(f"not an {SCHEME}: URL of the demo corpus", where=url) from None
    return unquote(parts.fragment), parts.path, speaker, room


def _record(dry: Samples, room: Room) -> Samples:
    """Noise at the room's signal-to-noise ratio, and its level."""
    speech = dry.astype(np.float64)
    noise = np.random.default_rng(room.seed).standard_normal(len(speech))
    noise *= np.sqrt(np.mean(speech**2)) * 10 ** (-room.snr / 20)
    noisy = speech + noise
    level = room.peak * np.iinfo(np.int16).max / np.abs(noisy).max()
    samples: Samples = np.rint(noisy * level).astype(np.int16)
    return samples
