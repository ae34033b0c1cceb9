"""An epoch of training batches through Ray Data with a model that does nothing: `epoch.py SHARDS INDEX`.

Two ranks in one process, each with a loader of its own, as two training processes would have.
"""

import sys

from xlst_ray.audio.augment import AugmentOptions
from xlst_ray.batches.index import Source, TargetText, build_index
from xlst_ray.batches.load import BatchLoader
from xlst_ray.batches.options import BatchOptions
from xlst_ray.batches.position import START
from xlst_ray.cluster.options import ClusterOptions
from xlst_ray.cluster.session import connect
from xlst_ray.cluster.stream import RaySource

OPTIONS = BatchOptions(cache_mb=0)
WORLD = 2


def main(shards: str, index_url: str) -> None:
    text = TargetText(str.lower, lambda sentence: [4 + ord(letter) % 60 for letter in sentence])
    index = build_index(Source(shards, "train"), text, OPTIONS)
    index.save(index_url)
    rows = len(index)
    nothing = BatchLoader(index, OPTIONS, augment=None, seed=0)
    del index
    connect(ClusterOptions(address="local", cpus=WORLD))
    sources = [
        RaySource(index_url, OPTIONS, AugmentOptions(), nothing, seed=0, ranks=[rank], world=WORLD, loader_cpus=1.0)
        for rank in range(WORLD)
    ]
    met = bytearray(rows)  # times that u<number> was met
    for step in zip(*(source.train(START) for source in sources), strict=True):
        if any(after.epoch > 0 for _, after in step):
            assert all(after.epoch > 0 for _, after in step), "the ranks are out of step"
        for batch, _ in step:
            for name in batch.ids:
                met[int(name[1:])] += 1
        if step[0][1].epoch > 0:
            break
    assert met.count(1) == rows, f"{met.count(1)} of {rows} utterances once, {met.count(0)} never"


if __name__ == "__main__":
    main(*sys.argv[1:])
