"""What was found in a shard folder: as lines of text, and as a page with histograms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xlst_ray.report.html import document, note, section, table
from xlst_ray.report.plots import plot_histogram
from xlst_ray.shards.inspect import DURATION_EDGES, MEANING, SPEED_EDGES, Fault, Inspection

_BAR, _LINES = 40, 12  # of a histogram in the text: characters of the longest bar, and lines
_UNIDENTIFIED = "The transcripts' language was not identified: the folder holds several, or none."


@dataclass(frozen=True)
class SplitFacts:
    """A split: what was seen in its shards, and what was rejected when they were made, by reason."""

    seen: Inspection
    rejected: Mapping[str, int]


@dataclass(frozen=True)
class Validation:
    """What was found in a shard folder.

    Attributes:
        langs: language codes of the rows.
        splits: by name.
    """

    shards: str
    labels: str | None
    langs: Sequence[str]
    splits: Mapping[str, SplitFacts]

    @property
    def faults(self) -> dict[tuple[str, Fault], int]:
        """Rows by (split, fault), for every fault that was found."""
        found = {}
        for split, facts in self.splits.items():
            for fault in MEANING:
                if facts.seen.faults[fault]:
                    found[split, fault] = facts.seen.faults[fault]
        return found

    @property
    def headline(self) -> str:
        """The outcome in a sentence."""
        kinds = sorted({fault for _, fault in self.faults})
        rows = sum(facts.seen.rows for facts in self.splits.values())
        hours = sum(facts.seen.seconds for facts in self.splits.values()) / 3600
        outcome = f"faults found: {', '.join(kinds)}" if kinds else "no fault was found"
        return f"{rows} utterances, {hours:.2f} h of {', '.join(self.langs) or 'no language'}; {outcome}."


def validation_text(found: Validation) -> str:
    """The findings for a terminal."""
    lines = [found.headline]
    for split, facts in found.splits.items():
        seen = facts.seen
        lines += ["", f"{split}: {seen.rows} utterances, {seen.seconds / 3600:.2f} h"]
        lines += [f"  rejected when shards were made: {rows} {reason}" for reason, rows in facts.rejected.items()]
        for fault, meaning in MEANING.items():
            if seen.faults[fault]:
                lines.append(f"  {fault}: {seen.faults[fault]} rows; {meaning}")
                lines += [f"      {place}" for place in seen.examples[fault]]
        lines += ["", "  duration, s", *_bars(DURATION_EDGES, seen.durations)]
        lines += ["", "  characters a second", *_bars(SPEED_EDGES, seen.speeds)]
    if len(found.langs) != 1:
        lines += ["", _UNIDENTIFIED]
    return "\n".join(lines)


def validation_page(found: Validation) -> str:
    """The findings as a page that stands alone."""
    body = [
        (split, fault, str(rows), f"{MEANING[fault]}. {'; '.join(found.splits[split].seen.examples[fault])}")
        for (split, fault), rows in found.faults.items()
    ]
    counts = [(s, str(f.seen.rows), f"{f.seen.seconds / 3600:.2f}") for s, f in found.splits.items()]
    dropped = [(s, reason, str(rows)) for s, f in found.splits.items() for reason, rows in f.rejected.items()]
    durations = {split: facts.seen.durations for split, facts in found.splits.items()}
    speeds = {split: facts.seen.speeds for split, facts in found.splits.items()}
    sections = [
        section("Faults", table(("split", "fault", "rows", "what it is, and where"), body, 2, long_last=True))
        if body
        else "",
        section("Utterances", table(("split", "rows", "hours"), counts, 1)),
        section("Rejected when the shards were made", table(("split", "reason", "rows"), dropped, 2))
        if dropped
        else "",
        section("Duration", f"<figure>{plot_histogram(DURATION_EDGES, durations, 'duration, s')}</figure>"),
        section("Speaking rate", f"<figure>{plot_histogram(SPEED_EDGES, speeds, 'characters a second')}</figure>"),
        note(_UNIDENTIFIED) if len(found.langs) != 1 else "",
    ]
    return document("Validation of shards", found.shards, found.headline, sections)


def _bars(edges: Sequence[int], counts: Sequence[int]) -> list[str]:
    """A histogram in lines of text, as many bins to a line as it needs, without the empty ones at its ends."""
    filled = [place for place, count in enumerate(counts) if count]
    if not filled:
        return ["    none"]
    first, end = filled[0], filled[-1] + 1
    step = -(-(end - first) // _LINES)
    sums = [(edges[start], sum(counts[start : start + step])) for start in range(first, end, step)]
    most = max(count for _, count in sums)
    return [f"    {edge:>3} {'#' * -(-_BAR * count // most):<{_BAR}} {count}" for edge, count in sums]
