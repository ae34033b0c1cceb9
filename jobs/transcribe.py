"""Recordings -> transcripts: text, JSON with times, scores and alternatives, subtitles.

python jobs/transcribe.py model=data/asr-ka 'audio=[interview.mp3,radio,"talks/*.ogg"]' out=data/text formats=[txt,srt]

Exit status 2 where a recording cannot be decoded; the others are transcribed. The same command, also with further
recordings, transcribes what is missing or has changed, and tries again what could not be decoded.
"""

import json
import sys
from functools import partial
from typing import Annotated

from pydantic import BeforeValidator

from xlst_ray import storage
from xlst_ray.cli import run_job
from xlst_ray.cluster.options import DecodingCluster
from xlst_ray.config import Url, one_or_several, option
from xlst_ray.errors import DataError
from xlst_ray.stages.stage import Stage, finished, run_stage
from xlst_ray.stages.transcribe import FAILED, TranscribeOptions, done_before, find_recordings, transcribe

PLACES = ("batch", "encoder")  # which change no result


class TranscribeJob(TranscribeOptions):
    """A model, recordings, and the folder of the transcripts."""

    model: Url = option(..., "folder or URL of the model, from jobs/train.py")
    audio: Annotated[tuple[Url, ...], BeforeValidator(one_or_several)] = option(
        ..., "recordings: files, folders, globs; one, or a list", min_length=1
    )
    out: Url = option(..., "folder or URL of the transcripts")
    cluster: DecodingCluster = option(DecodingCluster, "where and on how many processes")


def work(job: TranscribeJob) -> str:
    options = TranscribeOptions.model_validate({name: getattr(job, name) for name in TranscribeOptions.model_fields})
    recordings = find_recordings(job.audio)
    config = {key: value for key, value in options.identity().items() if key not in PLACES}
    stage = Stage("transcribe", config, {"model": finished(job.model, "lang").fingerprint})
    again = not done_before(job.out, recordings, job.formats)
    write = partial(transcribe, options, job.model, recordings, cluster=job.cluster)
    result = run_stage(stage, job.out, write, again=again)
    counts = json.dumps({name: count for name, count in result.counts.items() if name != "heard"})
    if failed := result.counts["failed"]:
        print(counts)
        others = "; the others are transcribed" if failed < len(recordings) else ""
        raise DataError(
            f"{failed} of {len(recordings)} recordings cannot be decoded",
            where=storage.join(result.folder, FAILED),
            hint=f"the reasons stand there{others}. Mend those and run the same command again",
        )
    return f"{counts}\n{result.folder} {'was done before' if result.reused else 'is done'}"


if __name__ == "__main__":
    sys.exit(run_job(TranscribeJob, work, __doc__))
