"""Recordings -> transcripts: decoded, cut at silence, recognised, put together again, written as text and subtitles.

A recording is done when its JSON is there, which is written last, and is of the file as it is now: a run that was
killed goes on with the others, and so does one to which recordings were added, or of which some were mended.
"""

import json
from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import PurePosixPath
from typing import Any, Final, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from xlst_ray import storage
from xlst_ray.audio import ffmpeg
from xlst_ray.audio.cut import QUIET, cut_at_silence
from xlst_ray.audio.decode import AudioError, Wave, decode, resample
from xlst_ray.audio.fbank import FRAME, SAMPLE_RATE, SHIFT
from xlst_ray.audio.features import WaveFeatures, normalised
from xlst_ray.cluster.options import DecodingCluster
from xlst_ray.cluster.pool import map_items
from xlst_ray.config import LanguageCode, Section, option
from xlst_ray.errors import ConfigError, DataError
from xlst_ray.languages import language
from xlst_ray.model.beam import BeamOptions, recognise
from xlst_ray.model.files import load_model
from xlst_ray.progress import say
from xlst_ray.stages.encode import StateEncoder
from xlst_ray.stages.evaluate import read_text_rule
from xlst_ray.stages.stage import DESCRIPTION, MANIFEST, find_finished, fingerprint
from xlst_ray.stages.states import about_model
from xlst_ray.text.subtitles import cues, srt, vtt
from xlst_ray.text.vocabulary import Vocabulary

SUFFIXES: Final = (
    *(".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".au"),
    *(*ffmpeg.EXTENSIONS, ".3gp"),
)
FAILED: Final = "failed.jsonl"
LEAST: Final = 4 * SHIFT  # samples of which every pretrained encoder makes a state
WRITTEN: Final = frozenset(
    {"audio", "size", "changed", "duration", "text", "segments"}
)  # what a transcript's JSON holds
_WILD: Final = frozenset("*?[")


class TranscribeOptions(Section):
    """How recordings become text."""

    beam: BeamOptions = option(BeamOptions, "beam search")
    longest: float = option(
        20.0,
        "longer recordings are cut at silence into parts of at most so much: what the model has learnt from",
        unit="s",
        ge=2 * QUIET,
    )
    batch: int = option(8, "parts of a recording that are recognised together", ge=1)
    formats: tuple[Literal["txt", "srt", "vtt"], ...] = option(("txt",), "what is written beside the JSON")
    lang: LanguageCode | None = option(
        None, "language that a model writes which can write several; none: the first that it was trained on", added=True
    )
    encoder: str | None = option(
        None, "folder or Hub name of the encoder whose states the model reads; none: where training had it"
    )


class Recording(NamedTuple):
    """A file, and the name of its transcript: its path without suffix, below what was asked for.

    Its size (bytes) and the time of its last change (ns) tell whether it is what a transcript was made of.
    """

    url: str
    name: str
    size: int | None = None
    changed: int | None = None


def find_recordings(asked: Sequence[str]) -> list[Recording]:
    """The files, the recordings of the folders (with all below them) and of the globs, each once, in order.

    In a glob `*`, `?` and `[...]` stand for parts of a name, not for folders.

    Raises:
        DataError: one of them is not there, or matches nothing.
        ConfigError: two recordings would have one transcript.
    """
    found: dict[str, Recording] = {}
    for url in asked:
        if next(storage.sizes([url])) is not None:  # a file, whatever its name: folders have no size
            base, files = url.rpartition("/")[0], [url]
        elif _WILD & set(url):
            parts = url.split("/")
            depth = next(number for number, part in enumerate(parts) if _WILD & set(part))
            base = "/".join(parts[:depth])
            below = storage.list_files(base or "/", recursive=depth + 1 < len(parts))
            files = [file for file in below if _matches(file, url)]
        else:
            base = url.rstrip("/")
            files = _in_folder(base)
        if not files:
            hint = f"folders are searched for {', '.join(SUFFIXES)}"
            if "," in url:
                hint = f"is it a list? Those stand in brackets: 'audio=[{url}]'"
            raise DataError("no recording is there", where=url, hint=hint)
        for file, stamp in zip(files, storage.stamps(files), strict=True):
            name = file[len(base) + 1 :].rpartition(".")[0] or file[len(base) + 1 :]
            if f"{name}.json" in (DESCRIPTION, MANIFEST):
                what = f"its transcript would be {name}.json, which is the stage's own"
                raise ConfigError(what, where=file, hint="rename it, or name the folder above its folder in audio=")
            other = found.setdefault(name, Recording(file, name, *stamp))
            if other.url != file:
                raise ConfigError(
                    f"{other.url} and {file} would have one transcript, {name}.json", hint="transcribe them apart"
                )
    return list(found.values())


def _in_folder(folder: str) -> list[str]:
    """The recordings of a folder and all below it, by their names; says how many files it left out."""
    files = storage.list_files(folder, recursive=True)
    named = [file for file in files if file.lower().endswith(SUFFIXES)]
    others = Counter(PurePosixPath(file).suffix.lower() or "no suffix" for file in set(files).difference(named))
    if others:
        kinds = ", ".join(
            f"{count} {suffix}" for suffix, count in sorted(others.items(), key=lambda kind: -kind[1])[:5]
        )
        more = ", ..." if len(others) > 5 else ""
        say(
            f"{folder}: files left out, no recordings by their names: {others.total()} ({kinds}{more}); "
            "a file or glob in audio= is read whatever its name"
        )
    return named


def _matches(file: str, glob: str) -> bool:
    parts, wanted = file.split("/"), glob.split("/")
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))


class Transcriber:
    """Writes the transcript of one recording after another, with the model of a folder."""

    def __init__(self, model: str, folder: str, options: TranscribeOptions, *, threads: int, gpu: bool) -> None:
        torch.set_num_threads(threads)
        self._device = torch.device("cuda" if gpu else "cpu")
        with storage.local_folder(model) as local:
            self._model = load_model(local).to(self._device)
            self._vocabulary = Vocabulary.load(local, size=self._model.vocabulary_size)
            lang = options.lang or read_text_rule(local)[0]
            self._start = self._vocabulary.start(lang)
            if options.lang is not None and self._start is None:
                raise ConfigError("the model writes one language", where="lang", hint="leave lang out")
            self._gap = " " if language(lang).spaces else ""
            about = about_model(local)
        self._features_of = WaveFeatures(self._model.frontend, self._device)
        self._encoder: StateEncoder | None = None
        if about is not None:
            self._encoder = StateEncoder.of_model(about, options.encoder, options.batch, threads=threads, gpu=gpu)
        _refuse_unheard(options, (self._encoder or self._model).longest)
        self._folder, self._options = folder, options

    def __call__(self, item: Sequence[Any]) -> dict[str, Any]:
        recording = Recording(*item)
        url = storage.join(self._folder, f"{recording.name}.json")
        if (done := _read_transcript(url, recording)) is not None:
            return _counted(done)
        try:
            wave, rate = decode(storage.read_bytes(recording.url))
        except AudioError as error:
            return {"audio": recording.url, "error": error.what}
        wave = resample(wave, rate, SAMPLE_RATE)
        segments = self._segments(wave)
        said = [segment for segment in segments if segment["text"] and not segment["no_speech"]]
        text = self._gap.join(segment["text"] for segment in said)
        shown = [cue for segment in said for cue in cues(segment["start"], segment["end"], segment["text"])]
        written = {"txt": f"{text}\n", "srt": srt(shown), "vtt": vtt(shown)}
        for kind in self._options.formats:
            storage.write_bytes(storage.join(self._folder, f"{recording.name}.{kind}"), written[kind].encode())
        seconds = round(len(wave) / SAMPLE_RATE, 2)
        of = {"audio": recording.url, "size": recording.size, "changed": recording.changed}
        whole = {**of, "duration": seconds, "text": text, "segments": segments}
        storage.write_json(url, whole)
        return _counted(whole)

    def _segments(self, wave: Wave) -> list[dict[str, Any]]:
        least = LEAST if self._encoder or self._model.frontend else FRAME
        parts = [part for part in cut_at_silence(wave, self._options.longest) if part[1] - part[0] >= least]
        found: dict[tuple[int, int], dict[str, Any]] = {}
        by_length = sorted(parts, key=lambda part: part[1] - part[0])
        for first in range(0, len(by_length), self._options.batch):
            together = by_length[first : first + self._options.batch]
            found |= zip(together, self._recognise(wave, together), strict=True)
        return [
            {"start": round(start / SAMPLE_RATE, 2), "end": round(end / SAMPLE_RATE, 2), **found[start, end]}
            for start, end in parts
        ]

    def _recognise(self, wave: Wave, parts: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
        features, frames = self.features([wave[start:end] for start, end in parts])
        answers = []
        starts = None if self._start is None else torch.full_like(frames, self._start)
        for hypotheses, _ in recognise(self._model, features, frames, self._options.beam, starts):
            (best, *others), decode_ = hypotheses, self._vocabulary.decode
            flags = {name: getattr(best, name) for name in ("finished", "looping", "no_speech")}
            alternatives = [{"text": decode_(one.tokens), "score": round(one.score, 4)} for one in others]
            text, score = decode_(best.tokens), round(best.score, 4)
            answers.append({"text": text, "score": score, **flags, "alternatives": alternatives})
        return answers

    def features(self, waves: Sequence[Wave]) -> tuple[Tensor, Tensor]:
        """What the model reads of some waves: (B, T, F), lengths (B) in frames."""
        if self._encoder is None:
            rows = [self._features_of(wave) for wave in waves]
        else:
            rows = [normalised(states) for states in self._encoder(waves)]
        frames = torch.tensor([len(values) for values in rows], device=self._device)
        return pad_sequence(rows, batch_first=True).to(self._device).float(), frames


def _read_transcript(url: str, recording: Recording) -> dict[str, Any] | None:
    """The transcript of a recording as it is now, if it was written before.

    Raises:
        DataError: what is there is no transcript.
        ConfigError: it is that of another recording.
    """
    if not storage.exists(url):
        return None
    hint = "something else of this name lies there: choose another out, or move it away"
    try:
        found = storage.read_json(url)
    except DataError as error:
        raise DataError(error.what, where=url, hint=error.hint or hint) from None
    if not isinstance(found, dict) or not found.keys() >= WRITTEN:
        raise DataError("is no transcript that this job wrote", where=url, hint=hint)
    if found["audio"] != recording.url:
        what = f"is the transcript of {found['audio']}, and that of {recording.url} would have the same name"
        raise ConfigError(what, where=url, hint="choose another out")
    return found if (found["size"], found["changed"]) == (recording.size, recording.changed) else None


def _counted(whole: dict[str, Any]) -> dict[str, Any]:
    """What the summary counts of a transcript."""
    return {
        "seconds": whole["duration"],
        "segments": len(whole["segments"]),
        "looping": sum(segment["looping"] for segment in whole["segments"]),
        "unfinished": sum(not segment["finished"] for segment in whole["segments"]),
        "no_speech": sum(segment["no_speech"] for segment in whole["segments"]),
    }


def _refuse_unheard(options: TranscribeOptions, longest: int | None) -> None:
    """Raises `ConfigError` where parts may be longer than the samples that the encoder hears."""
    if longest is not None and options.longest * SAMPLE_RATE > longest:
        heard = longest / SAMPLE_RATE
        raise ConfigError(
            f"the encoder hears {heard:g} s, not {options.longest:g}", where="longest", hint=f"set longest={heard:g}"
        )


def transcribe(
    options: TranscribeOptions, model: str, recordings: Sequence[Recording], folder: str, cluster: DecodingCluster
) -> dict[str, Any]:
    """Write the transcripts of recordings below `folder` that are missing or whose file has changed; returns counts.

    What cannot be decoded stands with the reason in `failed.jsonl`; a former transcript of it stays.
    """
    threads, gpu = max(1, int(cluster.decoder_cpus)), cluster.decoder_gpus > 0
    work = partial(Transcriber, model, folder, options, threads=threads, gpu=gpu)
    items = [list(recording) for recording in recordings]
    results = list(
        map_items(
            "transcribe",
            "recordings",
            work,
            items,
            cluster,
            pool=cluster.decoders,
            cpus=cluster.decoder_cpus,
            gpus=cluster.decoder_gpus,
            folder=folder,
        )
    )
    failed = [result for result in results if "error" in result]
    storage.write_lines(storage.join(folder, FAILED), [json.dumps(result, ensure_ascii=False) for result in failed])
    for result in failed:
        say(f"transcribe: {result['audio']} {result['error']}")
    done = [result for result in results if "error" not in result]
    names = ("seconds", "segments", "looping", "unfinished", "no_speech")
    counts = {name: sum(result[name] for result in done) for name in names}
    if counts["looping"] or counts["unfinished"]:
        say(
            f"transcribe: warning: of {counts['segments']} segments {counts['looping']} loop and "
            f"{counts['unfinished']} are unfinished (their text is kept), and in {counts['no_speech']} CTC hears no "
            "speech (their text is left out); the JSON of each recording says which"
        )
    rounded = {**counts, "seconds": round(counts["seconds"], 2)}
    return {"recordings": len(done), "failed": len(failed), **rounded, "heard": fingerprint(sorted(recordings))}


def done_before(folder: str, recordings: Sequence[Recording], formats: Sequence[str]) -> bool:
    """Whether a folder has the transcripts of these recordings, as they are now, and none of them has failed.

    Raises:
        DataError: texts would be written over files that lie there and belong to no transcript: somebody's own.
    """
    new = recordings
    if storage.exists(storage.join(folder, DESCRIPTION)):
        found = find_finished(folder)
        if found is None:  # a run that was killed may have left texts whose JSON was still to be written
            return False
        if (found.counts.get("heard"), found.counts.get("failed")) == (fingerprint(sorted(recordings)), 0):
            return True
        known = storage.sizes(storage.join(folder, f"{one.name}.json") for one in recordings)
        new = [one for one, size in zip(recordings, known, strict=True) if size is None]
    urls = [storage.join(folder, f"{one.name}.{kind}") for one in new for kind in ("json", *formats)]
    there = [url for url, size in zip(urls, storage.sizes(urls), strict=True) if size is not None]
    if there:
        what = f"is there already, and a transcript would be written over it (files like it: {len(there)})"
        raise DataError(what, where=there[0], hint="choose another out")
    return False
