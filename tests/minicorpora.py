"""Miniatures of corpora in the layouts of their publishers; what is said in them are tones (`tones.py`).

Each has, as `TEXTS` says, two utterances to train on, one for development, one to test with, and a training row that
cannot be understood.
"""

import csv
import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
import tones

from xlst_ray.corpora.open import open_corpus
from xlst_ray.corpora.options import CorpusOptions
from xlst_ray.errors import DataError
from xlst_ray.shards.schema import SAMPLE_RATE, Utterance

TEXTS = {"train": ["abc", "bad"], "dev": ["cafe"], "test": ["dada"]}
HF_PARTS = {"train": "train", "dev": "validation", "test": "test"}


def read(options: CorpusOptions, split: str = "train") -> list[Utterance]:
    """The rows of a split, none of which may be unusable."""
    found = []
    for row in open_corpus(options).rows(split):
        if row.utterance is None:
            raise DataError(f"{row.reason}: {row.detail}", where=row.where)
        found.append(row.utterance)
    return found


def sound(text: str, container: str = "WAV", subtype: str | None = None) -> bytes:
    return encoded(tones.wave(text), container, subtype)


def encoded(wave: np.ndarray, container: str = "WAV", subtype: str | None = None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, SAMPLE_RATE, format=container, subtype=subtype)
    return buffer.getvalue()


def m4a(wave: np.ndarray) -> bytes:
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
        frame.rate = SAMPLE_RATE
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    return buffer.getvalue()


def put(path: Path, content: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def lines(*rows: str) -> str:
    return "".join(f"{row}\n" for row in rows)


def common_voice(folder: Path) -> dict[str, Any]:
    for split, texts in TEXTS.items():
        rows = [f"{split}-speaker\t{split}{n}.mp3\t{text}\t2\t0" for n, text in enumerate(texts)]
        bad = ["client\tlost.mp3\ta\ttab"] if split == "train" else []
        put(folder / f"{split}.tsv", lines("client_id\tpath\tsentence\tup_votes\tdown_votes", *rows, *bad))
        for n, text in enumerate(texts):
            put(folder / "clips" / f"{split}{n}.mp3", sound(text, "MP3"))
    return {"reader": "common_voice"}


def covost(folder: Path) -> dict[str, Any]:
    """The second training utterance is of CoVoST's own extension; one translated clip is in no release."""
    rows, translations = [], ["lost.mp3\tLOST\ttrain"]
    for split, texts in TEXTS.items():
        for n, text in enumerate(texts):
            rows.append(f"{split}-speaker\t{split}{n}.mp3\t{text}")
            translations.append(f"{split}{n}.mp3\t{text.upper()}\t{split}{'_covost' if n else ''}")
            put(folder / "clips" / f"{split}{n}.mp3", sound(text, "MP3"))
    put(folder / "validated.tsv", lines("client_id\tpath\tsentence", "x\tnot-covost.mp3\th", *rows))
    put(folder / "covost_v2.xx_en.tsv", lines("path\ttranslation\tsplit", *reversed(translations)))
    return {"reader": "covost", "translations": {"en": "covost_v2.xx_en.tsv"}}


def fleurs(folder: Path) -> dict[str, Any]:
    for split, texts in TEXTS.items():
        rows = []
        for n, text in enumerate(texts):
            rows.append(f"{n}\t{split}{n}.wav\t{text}\t{text}\t{' '.join(text)} |\t7680\tFEMALE")
            put(folder / "xx_xx" / "audio" / split / f"{split}{n}.wav", sound(text))
        put(folder / "xx_xx" / f"{split}.tsv", lines(*rows, *(["7\tcut.wav\thalf"] if split == "train" else [])))
        other = [f"{n}\tx.wav\t{text.upper()}\tx\tx |\t1\tMALE" for n, text in enumerate(texts)]
        put(folder / "en_us" / f"{split}.tsv", lines(*reversed(other)))
    return {"reader": "fleurs", "path": str(folder / "xx_xx"), "translations": {"en": "en_us"}}


def hf_parquet(folder: Path) -> dict[str, Any]:
    """Two files to train on, row groups of one row, a struct of translations."""
    for split, texts in TEXTS.items():
        for n, text in enumerate(texts):
            struct = {"bytes": sound(text, "FLAC"), "path": f"{split}{n}.flac"}
            good = {"audio": struct, "sentence": text, "translation": {"en": text.upper()}, "speaker_id": 7}
            bad = {**good, "audio": {**struct, "path": "bad.flac"}, "sentence": None}
            name = f"{HF_PARTS[split]}-{n:05d}-of-{len(texts):05d}.parquet"
            (folder / "data").mkdir(exist_ok=True)
            table = pa.Table.from_pylist([bad, good] if n else [good])
            pq.write_table(table, folder / "data" / name, row_group_size=1)
    return {"reader": "hf_parquet", "translations": {"en": "translation.en"}}


def hf_audiofolder(folder: Path) -> dict[str, Any]:
    for split, texts in TEXTS.items():
        part = folder / HF_PARTS[split]
        rows = [["file_name", "transcription", "translation"]]
        for n, text in enumerate(texts):
            rows.append([f"{split}{n}.wav", text, f"{text.upper()}"])
            put(part / f"{split}{n}.wav", sound(text))
        buffer = io.StringIO()
        csv.writer(buffer).writerows([*rows, *([["bad.wav"]] if split == "train" else [])])
        put(part / "metadata.csv", buffer.getvalue())
    return {"reader": "hf_audiofolder", "translations": {"en": "translation"}}


def lhotse(folder: Path) -> dict[str, Any]:
    """One recording a part, cut; the cuts begin a letter before what is said in them."""
    for split, texts in TEXTS.items():
        wave, offsets = talk(texts)
        put(folder / f"{split}.flac", encoded(wave, "FLAC"))
        cuts = []
        for n, (text, (start, duration)) in enumerate(zip(texts, offsets, strict=True)):
            said = {"id": f"s{n}", "recording_id": "r", "start": 0.16, "duration": duration, "channel": 0, "text": text}
            source = {"type": "file", "channels": [0], "source": str(folder / f"{split}.flac")}
            recording = {"id": "r", "sources": [source], "sampling_rate": SAMPLE_RATE, "num_samples": len(wave)}
            cut = {"id": f"{split}{n}", "start": start - 0.16, "duration": duration + 0.16, "channel": 0}
            cuts.append({**cut, "supervisions": [{**said, "speaker": "s"}], "recording": recording, "type": "MonoCut"})
        bad = [{"id": "mix", "type": "MixedCut", "tracks": []}] if split == "train" else []
        put(folder / f"cuts_{split}.jsonl.gz", gzip.compress(lines(*map(json.dumps, [*cuts, *bad])).encode()))
    return {"reader": "lhotse"}


def webdataset(folder: Path) -> dict[str, Any]:
    for split, texts in TEXTS.items():
        with tarfile.open(folder / f"{split}-000000.tar", "w") as archive:
            members = {f"x/{split}{n}.mp3": sound(text, "MP3") for n, text in enumerate(texts)}
            for n, text in enumerate(texts):
                fields = {"text": text, "speaker": "s", "translation": {"en": text.upper()}}
                members[f"x/{split}{n}.json"] = json.dumps(fields).encode()
            if split == "train":
                members["x/bad.json"] = b'{"text": "no sound", "translation": {"en": "x"}}'
            for name, data in sorted(members.items(), reverse=split == "dev"):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return {"reader": "webdataset", "translations": {"en": "translation.en"}}


def librispeech(folder: Path) -> dict[str, Any]:
    for split, part in {"train": "train-clean-100", "dev": "dev-clean", "test": "test-clean"}.items():
        chapter = folder / part / "19" / "198"
        rows = [f"19-198-{n:04d} {text.upper()}" for n, text in enumerate(TEXTS[split])]
        put(chapter / "19-198.trans.txt", lines(*rows, *(["19-198-0009"] if split == "train" else [])))
        for n, text in enumerate(TEXTS[split]):
            put(chapter / f"19-198-{n:04d}.flac", sound(text, "FLAC"))
    put(folder / "SPEAKERS.TXT", "19 | F | train-clean-100 | 1.0 | Somebody\n")
    return {"reader": "librispeech"}


def mls(folder: Path) -> dict[str, Any]:
    root = folder / "mls_xx_opus"
    for split, texts in TEXTS.items():
        rows = [f"12_34_{n:06d}\t{text}" for n, text in enumerate(texts)]
        put(root / split / "transcripts.txt", lines(*rows, *(["12_34_000009 no tab"] if split == "train" else [])))
        for n, text in enumerate(texts):
            put(root / split / "audio" / "12" / "34" / f"12_34_{n:06d}.opus", sound(text, "OGG", "OPUS"))
    return {"reader": "mls", "path": str(root)}


def must_c(folder: Path) -> dict[str, Any]:
    bad = "- {duration: 1.0, offset: 0.0, rW: 1, speaker_id: spk.9}"
    talks(folder / "xx-en", {"train": "train", "dev": "dev", "test": "tst-COMMON"}, bad, "wav")
    return {"reader": "must_c", "path": str(folder / "xx-en")}


def mtedx(folder: Path) -> dict[str, Any]:
    bad = "- {duration: long, offset: 0.0, speaker_id: spk.9, wav: t.wav}"
    talks(folder / "xx-en", {"train": "train", "dev": "valid", "test": "test"}, bad, "flac")
    return {"reader": "mtedx", "path": str(folder / "xx-en")}


def talk(texts: list[str]) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """A second of silence, then texts with silence between; start and duration of each of them in seconds."""
    parts, offsets = [np.zeros(SAMPLE_RATE, np.float32)], []
    for text in texts:
        wave = tones.wave(text)
        offsets.append((sum(map(len, parts)) / SAMPLE_RATE, len(wave) / SAMPLE_RATE))
        parts += [wave, np.zeros(SAMPLE_RATE // 2, np.float32)]
    return np.concatenate(parts), offsets


def talks(root: Path, parts: dict[str, str], bad: str, extension: str) -> None:
    for split, part in parts.items():
        wave, offsets = talk(TEXTS[split])
        rows = [
            f"- {{duration: {duration:f}, offset: {start:f}, rW: 1, uW: 0, speaker_id: spk.1, wav: talk_{split}.wav}}"
            for start, duration in offsets
        ]
        more = ["?"] if split == "train" else []
        put(root / "data" / part / "txt" / f"{part}.yaml", lines(*rows, *([bad] if more else [])))
        put(root / "data" / part / "txt" / f"{part}.xx", lines(*TEXTS[split], *more))
        put(root / "data" / part / "txt" / f"{part}.en", lines(*(text.upper() for text in TEXTS[split]), *more))
        put(root / "data" / part / "wav" / f"talk_{split}.{extension}", encoded(wave, extension.upper()))


def europarl_st(folder: Path) -> dict[str, Any]:
    for split, texts in TEXTS.items():
        wave, offsets = talk(texts)
        rows = [f"en.20080901.1.1-{split} {start:.2f} {start + duration:.2f}" for start, duration in offsets]
        more = ["?"] if split == "train" else []
        part = folder / "xx" / "en" / split
        put(part / "segments.lst", lines(*rows, *([f"en.20080901.1.1-{split} 5.00 4.00"] if more else [])))
        put(part / "segments.xx", lines(*texts, *more))
        put(part / "segments.en", lines(*(text.upper() for text in texts), *more))
        put(part / "speeches.lst", lines(f"en.20080901.1.1-{split}"))
        put(part / "speakers.lst", lines("MEP_4"))
        put(folder / "xx" / "audios" / f"en.20080901.1.1-{split}.m4a", m4a(wave))
    return {"reader": "europarl_st", "path": str(folder / "xx" / "en")}


def voxpopuli(folder: Path) -> dict[str, Any]:
    """The raw text is not always there."""
    for split, texts in TEXTS.items():
        rows = [f"2009{split}-{n}\t{'' if n else text}\t{text}\t9\t{split}\tmale" for n, text in enumerate(texts)]
        header = "id\traw_text\tnormalized_text\tspeaker_id\tsplit\tgender"
        put(folder / f"asr_{split}.tsv", lines(header, *rows, *(["2009\tcut"] if split == "train" else [])))
        for n, text in enumerate(texts):
            put(folder / "2009" / f"2009{split}-{n}.ogg", sound(text, "OGG", "VORBIS"))
    return {"reader": "voxpopuli"}


def manifest(folder: Path) -> dict[str, Any]:
    """As NeMo writes them: segments of one recording."""
    for split, texts in TEXTS.items():
        wave, offsets = talk(texts)
        put(folder / f"{split}.wav", encoded(wave))
        rows = [
            {"audio_filepath": f"{split}.wav", "text": text, "offset": start, "duration": duration}
            for text, (start, duration) in zip(texts, offsets, strict=True)
        ]
        bad = [{"audio_filepath": f"{split}.wav", "duration": 1.0}] if split == "train" else []
        put(folder / f"{split}_manifest.json", lines(*map(json.dumps, [*rows, *bad])))
    return {"reader": "manifest", "splits": {split: f"{split}_manifest.json" for split in TEXTS}}


MINIATURES: dict[str, Callable[[Path], dict[str, Any]]] = {
    build.__name__: build
    for build in (
        manifest, common_voice, covost, fleurs, hf_parquet, hf_audiofolder, lhotse, webdataset, librispeech, mls,
        must_c, mtedx, europarl_st, voxpopuli,
    )
}  # fmt: skip
TRANSLATED = ("covost", "fleurs", "hf_parquet", "hf_audiofolder", "webdataset", "must_c", "mtedx", "europarl_st")


def make(reader: str, folder: Path) -> CorpusOptions:
    """A miniature below a new folder, and the options that read it."""
    folder.mkdir()
    return CorpusOptions(**{"path": str(folder), "lang": "xx", **MINIATURES[reader](folder)})
