"""Planning what one model takes over from another, over different vocabularies too."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Literal

from torch import Tensor, nn

from xlst_ray.config import Section, option
from xlst_ray.errors import TransferError
from xlst_ray.model.s2t import VOCABULARY_ROWS
from xlst_ray.model.transfer_plan import Action, Entry, TransferPlan


class TransferOptions(Section):
    """Which parameters are taken over, and which of the model's do not train at first. Patterns are a shell's."""

    modules: Literal["all", "encoder", "decoder"] = option("all", "what is taken over; the CTC head belongs to all")
    include: tuple[str, ...] = option((), "patterns of parameter names: only these; empty: all of the modules")
    exclude: tuple[str, ...] = option((), "patterns of parameter names: not these")
    rename: dict[str, str] = option({}, "prefix of names in the source -> prefix here, such as {'model.': ''}")
    freeze: dict[str, int] = option({}, "pattern of parameter names -> first update at which they train", unit="update")
    min_share: float = option(0.9, "refused when a smaller share of the parameters asked for loads", ge=0, le=1)


def plan_transfer(
    source: Mapping[str, Tensor],
    source_pieces: Sequence[str],
    target: nn.Module,
    target_pieces: Sequence[str],
    options: TransferOptions,
) -> TransferPlan:
    """What `target` takes over from a state dict. Changes nothing: `TransferPlan.apply` does.

    A parameter is loaded where the source has one of its name and shape. Those with a row for each token
    (`VOCABULARY_ROWS`) are loaded row by row, by token, where the two vocabularies differ.

    Args:
        source: the source's state dict. source_pieces: its vocabulary, in the order of ids.
        target_pieces: the vocabulary of `target`.

    Raises:
        TransferError: a pattern that matches nothing, a vocabulary that is not its model's, or less loads than
            `options.min_share` of what was asked for.
    """
    names = _rename(source, options.rename)
    state = target.state_dict()
    _refuse_idle_patterns(options, list(state))
    for name in VOCABULARY_ROWS:
        _check_rows(name, state.get(name), target_pieces, "target")
        _check_rows(name, source.get(names.get(name, "")), source_pieces, "source")
    rows = _shared_rows(source_pieces, target_pieces)
    same_vocabulary = list(source_pieces) == list(target_pieces)

    entries = []
    for name, here in state.items():
        wanted = _is_wanted(name, options)
        there = source[names[name]] if wanted and name in names else None
        if there is not None:
            by_token = len(rows) if name in VOCABULARY_ROWS and not same_vocabulary else None
            action, detail, loaded = _decide(here, there, by_token)
        else:
            action, detail, loaded = "reset", "not in the source" if wanted else "not asked for", 0
        origin = None if action == "reset" else names[name]
        frozen = max((until for pattern, until in options.freeze.items() if fnmatchcase(name, pattern)), default=0)
        entries.append(Entry(name, origin, action, detail, loaded, here.numel(), wanted, frozen))
    plan = TransferPlan(entries, source, rows)
    _refuse_small_share(plan, options)
    return plan


def _decide(here: Tensor, there: Tensor, by_token: int | None) -> tuple[Action, str, int]:
    """Action, its detail, elements that load. `by_token`: rows that both vocabularies have; none: load all of it."""
    first = 0 if by_token is None else 1
    if here.shape[first:] != there.shape[first:]:
        return "reset", f"another shape ({_shape(there)} in the source, {_shape(here)} here)", 0
    if by_token is None:
        return "loaded", "", here.numel()
    return "rows", f"{by_token} of {len(here)} by token", by_token * here[0].numel()


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _shared_rows(source_pieces: Sequence[str], target_pieces: Sequence[str]) -> list[tuple[int, int]]:
    """(row here, row in the source) of each token that both vocabularies have."""
    ids = {piece: number for number, piece in enumerate(source_pieces)}
    return [(number, ids[piece]) for number, piece in enumerate(target_pieces) if piece in ids]


def _rename(source: Mapping[str, Tensor], prefixes: Mapping[str, str]) -> dict[str, str]:
    """Name here -> name in the source; of several prefixes the longest counts."""
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in source):
            raise TransferError(f"rename: no name in the source begins with {prefix!r}", hint=_near(prefix, source))
    names = {}
    for name in source:
        prefix = max((prefix for prefix in prefixes if name.startswith(prefix)), key=len, default="")
        names[prefixes.get(prefix, "") + name.removeprefix(prefix)] = name
    return names


def _is_wanted(name: str, options: TransferOptions) -> bool:
    def matches(patterns: Iterable[str]) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in patterns)

    in_modules = options.modules == "all" or name.startswith(f"{options.modules}.")
    return in_modules and (not options.include or matches(options.include)) and not matches(options.exclude)


def _refuse_idle_patterns(options: TransferOptions, names: Sequence[str]) -> None:
    given = [("include", options.include), ("exclude", options.exclude), ("freeze", tuple(options.freeze))]
    for key, patterns in given:
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise TransferError(f"{key}: the pattern {pattern!r} matches no parameter", hint=_near(pattern, names))


def _near(pattern: str, names: Iterable[str]) -> str:
    known: dict[str, None] = {}
    for name in names:
        parts = name.split(".")
        known.update(dict.fromkeys([".".join(parts[:end]) + ".*" for end in range(1, len(parts))] + [name]))
    near = difflib.get_close_matches(pattern, known, n=3, cutoff=0.4) or list(known)[:3]
    return f"nearest: {', '.join(near)}"


def _check_rows(name: str, tensor: Tensor | None, pieces: Sequence[str], side: str) -> None:
    if tensor is not None and len(tensor) != len(pieces):
        raise TransferError(
            f"has {len(tensor)} rows, but the {side} vocabulary has {len(pieces)} tokens",
            where=name,
            hint=f"give the vocabulary that the {side} model was made with",
        )


def _refuse_small_share(plan: TransferPlan, options: TransferOptions) -> None:
    if plan.share < options.min_share:
        raise TransferError(
            f"only {plan.share:.1%} of the parameters asked for would load, at least {options.min_share:.1%} must\n"
            + plan.table(),
            hint="take a source of the same architecture, ask for less (modules, include, exclude), or lower min_share",
        )
