"""A plan of what a model takes over from another: it is printed, applied, and checked against what was loaded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from xlst_ray.errors import TransferError

Action = Literal["loaded", "rows", "reset"]


@dataclass(frozen=True)
class Entry:
    """What happens to one parameter.

    Attributes:
        name: its name here. source: in the source; none where nothing is loaded.
        action: all of it is loaded, or some rows by token, or it is reset (stays as it was initialised).
        detail: how many rows, or why it is reset.
        loaded: elements that are loaded. size: all its elements.
        wanted: whether it was asked for.
        frozen_until: first update at which it trains.
    """

    name: str
    source: str | None
    action: Action
    detail: str
    loaded: int
    size: int
    wanted: bool
    frozen_until: int


class TransferPlan:
    """What happens to each parameter and buffer of a model, with the tensors to load. Made by `plan_transfer`.

    Attributes:
        entries: in the order of the model's state dict.
        unused: names of the source's tensors that are not loaded.
    """

    def __init__(self, entries: Sequence[Entry], source: Mapping[str, Tensor], rows: Sequence[tuple[int, int]]) -> None:
        self.entries = tuple(entries)
        taken = {entry.source for entry in entries}
        self.unused = tuple(name for name in source if name not in taken)
        self._source = source
        self._rows_here = torch.tensor([here for here, _ in rows], dtype=torch.long)
        self._rows_there = torch.tensor([there for _, there in rows], dtype=torch.long)

    @property
    def share(self) -> float:
        """Share of the elements asked for that load; 0 where nothing was asked for."""
        wanted = [entry for entry in self.entries if entry.wanted]
        return _share(sum(entry.loaded for entry in wanted), sum(entry.size for entry in wanted))

    def apply(self, model: nn.Module) -> None:
        """Loads into the model that the plan was made for, and reads back that it holds what the plan says.

        Raises:
            TransferError: the model is another one, or does not hold afterwards what was planned (as when a parameter
                shares its memory with one that is loaded otherwise).
        """
        initial = model.state_dict()
        if [(name, tensor.numel()) for name, tensor in initial.items()] != [(e.name, e.size) for e in self.entries]:
            raise TransferError("the transfer plan was made for another model", hint="plan again for this one")
        expected = {entry.name: self._value(entry, initial[entry.name]) for entry in self.entries}
        model.load_state_dict(expected)
        for name, tensor in model.state_dict().items():
            if not torch.equal(tensor, expected[name]):
                raise TransferError("does not hold what the transfer plan says", where=name)

    def table(self) -> str:
        """The plan for people: a line a module, equal neighbouring layers as one, and the total."""
        lines = [_HEADER, *map(_show, _merge_layers(_module_lines(self.entries))), self._total()]
        widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADER))]
        shown = [_justify(line, widths) for line in lines]
        rule = "-" * max(map(len, shown))
        shown = [shown[0], rule, *shown[1:-1], rule, shown[-1]]
        if self.unused:
            modules = ", ".join(dict.fromkeys(module_of(name) for name in self.unused))
            shown.append(f"not used of the source: {modules}")
        return "\n".join(shown)

    def _value(self, entry: Entry, initial: Tensor) -> Tensor:
        value = initial.clone()
        if entry.source is None:
            return value
        source = self._source[entry.source].to(value)
        if entry.action == "loaded":
            return value.copy_(source)
        value[self._rows_here.to(value.device)] = source[self._rows_there.to(value.device)]
        return value

    def _total(self) -> tuple[str, ...]:
        loaded, size = sum(entry.loaded for entry in self.entries), sum(entry.size for entry in self.entries)
        return ("total", f"{self.share:.1%} of what was asked for", f"{size:,}", f"{_share(loaded, size):.1%}", "")


def module_of(name: str) -> str:
    """The line of the table that a parameter belongs to: `encoder.layers.3`, `encoder.conv`, `ctc`."""
    parts = name.split(".")[:-1]
    return ".".join(parts[: 3 if len(parts) > 2 and parts[2].isdigit() else 2]) or name


_HEADER = ("module", "action", "parameters", "loaded", "frozen until")


class _Line(NamedTuple):
    module: str
    action: str
    frozen_until: int
    loaded: int
    size: int

    @property
    def alike(self) -> tuple[object, ...]:
        """Equal for layers that differ in their number only; unequal to all else's neighbours."""
        stem, _, number = self.module.rpartition(".")
        return (stem if number.isdigit() else self.module, *self[1:])


def _module_lines(entries: Sequence[Entry]) -> list[_Line]:
    lines: dict[tuple[str, str, int], _Line] = {}
    for entry in entries:
        line = _Line(module_of(entry.name), _action(entry), entry.frozen_until, entry.loaded, entry.size)
        kind = line.action.partition(" (")[0]  # of several shapes a line shows the first
        known = lines.setdefault((line.module, kind, line.frozen_until), line)
        if known is not line:
            total = known._replace(loaded=known.loaded + line.loaded, size=known.size + line.size)
            lines[line.module, kind, line.frozen_until] = total
    return list(lines.values())


def _merge_layers(lines: Sequence[_Line]) -> list[_Line]:
    merged = []
    for _, group in groupby(lines, key=lambda line: line.alike):
        layers = list(group)
        first, last = layers[0], layers[-1]
        name = first.module if first is last else f"{first.module}-{last.module.rpartition('.')[2]}"
        loaded, size = sum(line.loaded for line in layers), sum(line.size for line in layers)
        merged.append(first._replace(module=name, loaded=loaded, size=size))
    return merged


def _action(entry: Entry) -> str:
    if entry.source is None:
        return f"{entry.action}: {entry.detail}"
    renamed = "" if entry.source == entry.name else f", renamed from {_old_prefix(entry.name, entry.source)}"
    return f"{entry.action} {entry.detail}".rstrip() + renamed


def _old_prefix(name: str, source: str) -> str:
    """What of the source's name is not the end of the name here: `model.encoder.conv.w` -> `model`."""
    new, old = name.split("."), source.split(".")
    while new and old and new[-1] == old[-1]:
        new.pop()
        old.pop()
    return ".".join(old) or "the top"


def _show(line: _Line) -> tuple[str, ...]:
    until = f"update {line.frozen_until:,}" if line.frozen_until > 0 else ""
    return (line.module, line.action, f"{line.size:,}", f"{_share(line.loaded, line.size):.1%}", until)


def _justify(line: Sequence[str], widths: Sequence[int]) -> str:
    module, action, size, loaded, until = line
    return f"{module:<{widths[0]}}  {action:<{widths[1]}}  {size:>{widths[2]}}  {loaded:>{widths[3]}}  {until}".rstrip()


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
