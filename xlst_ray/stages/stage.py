"""Stages: a folder with a fingerprint. Done and identical: skipped. Begun: continued. Different: refused.

A stage folder holds `stage.json` (what it is: resolved configuration, input fingerprints), written first, and
`manifest.json` (the same with versions, counts and seconds), written last: it makes the stage count as done.
Only then are the folders of its work (`WORKING`) removed: without a manifest, all that a resume needs is still there.
"""

import hashlib
import json
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from xlst_ray import storage
from xlst_ray.errors import ConfigError, DataError
from xlst_ray.progress import in_stage, say

VERSIONS_OF = (
    "xlst-ray",
    "ray",
    "torch",
    "torchaudio",
    "pyarrow",
    "sentencepiece",
    "transformers",
    "soundfile",
    "jiwer",
    "sacrebleu",
)

DESCRIPTION = "stage.json"
MANIFEST = "manifest.json"
WORKING = ("checkpoints", "init", "answers")  # folders of a stage at work
MADE_BY: Final[Mapping[str, str]] = {  # by a key of the configuration of such a stage
    "corpus": "shards, which jobs/prepare.py makes",
    "lang": "a model, which jobs/train.py makes",
    "target": "labels, which jobs/pseudo_label.py makes",
    "encoder": "states, which jobs/encode.py makes",
}

Counts = Mapping[str, Any]


def fingerprint(value: Any) -> str:
    """12 hexadecimal digits of the SHA-256 of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Stage:
    """What a stage is: enough to know whether a finished one is the one that is asked for.

    Attributes:
        name: `prepare-nl`, `asr-cs`, `labels-lm`: also the start of its folder's name.
        config: the resolved configuration of this stage alone.
        inputs: fingerprints of what it reads, by role.
        version: raised when the code of the stage changes what it writes.
    """

    name: str
    config: Mapping[str, Any]
    inputs: Mapping[str, str]
    version: int = 1

    @property
    def fingerprint(self) -> str:
        return fingerprint([self.name, self.config, dict(self.inputs), self.version])

    @property
    def folder_name(self) -> str:
        return f"{self.name}-{self.fingerprint}"


@dataclass(frozen=True)
class StageResult:
    """A finished stage: where it lies, and what its manifest says."""

    folder: str
    name: str
    fingerprint: str
    config: Mapping[str, Any]
    counts: Counts
    seconds: float
    reused: bool


def find_finished(folder: str) -> StageResult | None:
    """The finished stage in a folder, or none. Raises `DataError` where its manifest is damaged."""
    manifest = _read_description(folder, MANIFEST, ("counts", "seconds"))
    if manifest is None:
        return None
    fields = {name: manifest[name] for name in ("fingerprint", "config", "counts", "seconds")}
    return StageResult(folder=folder, name=manifest["stage"], reused=True, **fields)


def _read_description(folder: str, name: str, further: tuple[str, ...] = ()) -> dict[str, Any] | None:
    url = storage.join(folder, name)
    if not storage.exists(url):
        return None
    hint = "it is damaged: delete the folder and run the job that made it again"
    if name == MANIFEST and not storage.exists(storage.join(folder, DESCRIPTION)):
        hint = f"a folder of ours has a {DESCRIPTION}, too: is the path right?"
    try:
        found = storage.read_json(url)
    except DataError as error:
        raise DataError(error.what, where=url, hint=error.hint or hint) from None
    if not isinstance(found, dict) or not found.keys() >= {"stage", "fingerprint", "config", *further}:
        raise DataError("does not describe a stage", where=url, hint=hint)
    return found


def finished(folder: str, *needs: str) -> StageResult:
    """The finished stage in a folder that is to be read, whose configuration has the keys `needs`.

    Raises:
        DataError: there is none, it has not come to its end, or it is a stage of another kind.
    """
    found = find_finished(folder)
    wanted = ", ".join(MADE_BY[key] for key in needs if key in MADE_BY)
    if found is not None:
        if any(key not in found.config for key in needs):
            what = f"holds the stage {found.name}, not {wanted or 'one of ' + ', '.join(needs)}"
            raise DataError(what, where=folder, hint="is the path right?")
        return found
    if storage.exists(storage.join(folder, DESCRIPTION)):
        raise DataError("was begun but not finished", where=folder, hint="run the job that makes it again: it goes on")
    hint = f"is the path right? Wanted: {wanted}" if wanted else "is the path right?"
    raise DataError("is not the folder of a finished stage: no manifest.json", where=folder, hint=hint)


def run_stage(stage: Stage, folder: str, work: Callable[[str], Counts], *, again: bool = False) -> StageResult:
    """Do `work(folder)` unless the same stage is already finished there.

    `work` must itself continue what an earlier, killed call began; it returns the counts for the manifest.
    With `again` it is done on a finished stage, too, which counts as unfinished until it is done.
    Where another process of this machine is at work on it, or one of a shared file system, that is waited for.

    Raises:
        ConfigError: the folder holds another stage, or the same one with another configuration or other inputs.
    """
    refuse_other(stage, folder)
    found = find_finished(folder)
    if found is not None and not again:
        return found
    with storage.locked(folder, lambda: say(f"{folder}: another job is at work here: waiting for it")):
        refuse_other(stage, folder)
        found = find_finished(folder)
        return found if found is not None and not again else _do(stage, folder, work)


def _do(stage: Stage, folder: str, work: Callable[[str], Counts]) -> StageResult:
    description = {
        "stage": stage.name,
        "fingerprint": stage.fingerprint,
        "version": stage.version,
        "config": stage.config,
        "inputs": dict(stage.inputs),
    }
    storage.write_json(storage.join(folder, DESCRIPTION), description)
    storage.delete(storage.join(folder, MANIFEST))
    began = time.monotonic()
    with in_stage(stage.folder_name):
        counts = work(folder)
    seconds = round(time.monotonic() - began, 1)
    manifest = {**description, "versions": versions(), "counts": dict(counts), "seconds": seconds}
    storage.write_json(storage.join(folder, MANIFEST), manifest)
    for working in WORKING:
        storage.delete(storage.join(folder, working))
    return StageResult(folder, stage.name, stage.fingerprint, stage.config, counts, seconds, reused=False)


def refuse_other(stage: Stage, folder: str) -> None:
    """Raises `ConfigError` where a folder holds another stage than this one, or files that are of none."""
    found = _read_description(folder, MANIFEST) or _read_description(folder, DESCRIPTION)
    if found is not None and found["fingerprint"] == stage.fingerprint:
        return
    if found is None:
        if foreign := storage.list_files(folder):
            names = ", ".join(url.rpartition("/")[2] for url in foreign[:3])
            raise ConfigError(
                f"holds files that this job has not written ({names})",
                where=folder,
                hint="choose another output folder, empty or not there yet",
            )
        return
    # A stage that failed on its first input has made nothing: the mended command may take its folder.
    if storage.list_files(folder, recursive=True) != [storage.join(folder, DESCRIPTION)]:
        inputs = [f"input {name}" for name in _changes(found.get("inputs", {}), dict(stage.inputs))]
        changed = _changes(found["config"], dict(stage.config)) + inputs or ["its version"]
        begun = "" if storage.exists(storage.join(folder, MANIFEST)) else ", not finished"
        raise ConfigError(
            f"holds another {found['stage']} stage{begun} ({', '.join(changed[:5])} differ)",
            where=folder,
            hint="choose another output folder, or delete this one if its content is no longer wanted",
        )


def replace_other(stage: Stage, folder: str) -> None:
    """Another stage in a folder gives way. Raises `ConfigError` where the files there are of none."""
    try:
        refuse_other(stage, folder)
    except ConfigError:
        if not storage.exists(storage.join(folder, DESCRIPTION)):
            raise
        storage.delete(folder)


def _changes(old: Any, new: Any, prefix: str = "") -> list[str]:
    """Dotted keys at which two resolved configurations differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        return [name for key in keys for name in _changes(old.get(key), new.get(key), f"{prefix}{key}.")]
    return [] if old == new else [prefix.rstrip(".")]


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for name in VERSIONS_OF:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
