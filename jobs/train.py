"""Shards -> a speech model: recognition of the transcripts, or translation where labels are named.

python jobs/train.py shards=data/cv-ka out=data/asr-ka init=data/st-en-ka vocabulary=data/st-en-ka model.size=s
"""

import sys
from functools import partial

from xlst_ray.cli import run_job
from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.config import Seed, Url, option
from xlst_ray.stages.speech_data import SourceOptions, speech_data, thresholds
from xlst_ray.stages.stage import run_stage
from xlst_ray.stages.train import SpeechOptions, describe_training, train_speech
from xlst_ray.text.keep import KeepOptions
from xlst_ray.text.vocabulary import VocabularyOptions


class TrainJob(SpeechOptions):
    """Data, model, and its folder."""

    shards: Url = option(..., "folder or URL of the shards; they need the splits train and dev")
    labels: Url | None = option(None, "folder or URL of labels: translate into their language; none: transcribe")
    states: Url | None = option(None, "folder or URL of states, from jobs/encode.py; none: filterbanks are read")
    sources: dict[str, SourceOptions] = option({}, "further training data, met as batch.temperature and weights say")
    scores: bool = option(False, "leave out labels whose scores the thresholds of keep refuse")
    keep: KeepOptions = option(KeepOptions, "thresholds on the scores of labels")
    init: Url | None = option(None, "model to start from, ours or a Speech2Text checkpoint; none: random weights")
    vocabulary: Url | None = option(None, "folder or URL of a vocabulary or of a model; none: made of training targets")
    pieces: VocabularyOptions = option(VocabularyOptions, "the vocabulary, where it is made here")
    held_out: Url | None = option(None, "file of held-out sentence keys, one a line, that are not trained on")
    out: Url = option(..., "folder or URL of the model")
    seed: Seed = option(1, "of everything random")
    cluster: ClusterOptions = option(ClusterOptions, "where and on how many processes")


def work(job: TrainJob) -> str:
    options = SpeechOptions.model_validate({name: getattr(job, name) for name in SpeechOptions.model_fields})
    data = speech_data(
        options.text,
        job.pieces,
        shards=job.shards,
        labels=job.labels,
        init=job.init,
        vocabulary=job.vocabulary,
        held_out=job.held_out,
        out=job.out,
        keep=thresholds(job.labels, job.scores, job.keep),
        states=job.states,
        further=job.sources,
    )
    train = partial(train_speech, "train", options, data, job.seed, cluster=job.cluster)
    result = run_stage(describe_training("train", options, data, job.seed, job.cluster.planned_ranks), job.out, train)
    return f"{result.folder} {'was done before' if result.reused else 'is done'}"


if __name__ == "__main__":
    sys.exit(run_job(TrainJob, work, __doc__))
