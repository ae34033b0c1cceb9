"""Runs the stages of an experiment, telling which one, how far the whole is and about how long it still takes."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from xlst_ray import storage
from xlst_ray.progress import clock, say
from xlst_ray.stages.stage import Stage, StageResult, run_stage


class Runner:
    """Stages in `<workspace>/stages/<stage>-<fingerprint>/`, each done once whoever asks for it.

    Args:
        workspace: folder or URL.
        outline: names of the stages to come and the updates each trains, for the progress lines.
    """

    def __init__(self, workspace: str, outline: Sequence[tuple[str, int]]) -> None:
        self._workspace = workspace
        self._total = len(outline)
        self._updates = dict(outline)
        self._updates_left = sum(updates for _, updates in outline)
        self._updates_done, self._training_seconds = 0, 0.0
        self._began, self._number = time.monotonic(), 0
        self._skipped: set[str] = set()
        self.results: dict[str, StageResult] = {}

    def run(self, title: str, stage: Stage, work: Callable[[str], dict[str, Any]]) -> StageResult:
        """The stage's result, from an earlier run where it is done. `title` is its name in the outline."""
        if title in self.results:
            return self.results[title]
        self._number += 1
        folder = storage.join(self._workspace, "stages", stage.folder_name)
        head = f"[{self._number}/{self._total}] {title}"
        say(f"{head} ... {folder}{self._time_to_go()}")
        result = run_stage(stage, folder, work)
        say(f"{head} {'was done before' if result.reused else f'done in {clock(result.seconds)}'}")
        self._note(title, result)
        self.results[title] = result
        return result

    def skip(self, title: str, reason: str) -> None:
        """Count a stage that cannot be, once."""
        if title in self._skipped or title in self.results:
            return
        self._skipped.add(title)
        self._number += 1
        say(f"[{self._number}/{self._total}] {title} left out: {reason}")

    def _note(self, title: str, result: StageResult) -> None:
        updates = self._updates.get(title, 0)
        self._updates_left -= updates
        if updates and not result.reused:
            self._updates_done += updates
            self._training_seconds += result.seconds

    def _time_to_go(self) -> str:
        if not self._updates_done:
            return ""
        rate = self._training_seconds / self._updates_done
        passed = clock(time.monotonic() - self._began)
        return f"  (after {passed}, about {clock(rate * self._updates_left)} of training to go)"
