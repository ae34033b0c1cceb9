"""Ray Train's list of the checkpoints of a training, which a resume begins with.

Ray writes it in place: where the disk is full, or the power fails, just then, it is cut off, and the checkpoints that
it names cannot be found again. So there is a copy, as it was after the report before. Ray writes the list first and
removes checkpoints after that: those that the copy names are there whenever the list is cut off.
"""

import json
from typing import Final

from xlst_ray import storage
from xlst_ray.progress import say

LIST: Final = "checkpoint_manager_snapshot.json"
COPY: Final = "snapshot-before.json"  # in the same folder, with which it goes


def copy_list(folder: str) -> None:
    """After a report to Ray Train, when the list in the folder of its checkpoints is whole."""
    storage.write_bytes(storage.join(folder, COPY), storage.read_bytes(storage.join(folder, LIST)))


def mend_list(folder: str) -> None:
    """Before a training goes on: a list that is cut off becomes what its copy says."""
    url, copy = storage.join(folder, LIST), storage.join(folder, COPY)
    if not storage.exists(url) or _is_whole(url):
        return
    say(f"{url} is cut off: it becomes what it was one checkpoint before")
    if storage.exists(copy):
        storage.write_bytes(url, storage.read_bytes(copy))
    else:
        storage.delete(url)  # of the first checkpoint


def remove_unlisted(folder: str) -> None:
    """After that: what a kill left of checkpoints that were not in the list yet goes.

    They are written again. Of a model that is shared out, and now among fewer processes, parts of both would be read.
    """
    url = storage.join(folder, LIST)
    results = storage.read_json(url)["checkpoint_results"] if storage.exists(url) else []
    listed = {result["checkpoint_dir_name"] for result in results}
    there = {file[len(folder) + 1 :].partition("/")[0] for file in storage.list_files(folder, recursive=True)}
    for name in there - listed:
        if name.startswith("update-"):
            storage.delete(storage.join(folder, name))


def _is_whole(url: str) -> bool:
    try:
        json.loads(storage.read_bytes(url))
    except ValueError:
        return False
    return True
