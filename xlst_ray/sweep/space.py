"""The search space: which values a trial has, at random or from the whole grid, with keys that depend on others."""

import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

import numpy as np

from xlst_ray.errors import ConfigError
from xlst_ray.sweep.options import Domain

# Dotted key -> value, of the keys that vary in a trial. Its order is no part of it.
Assignment: TypeAlias = dict[str, Any]
Pick: TypeAlias = Callable[[str, Domain], Any]

_DRAWS_A_TRIAL: Final = 50  # before a space is taken to have no further configuration
_SIGNIFICANT: Final = 4  # digits of a number that is drawn: as a person would write it in a configuration


def canonical(assignment: Mapping[str, Any]) -> str:
    """An assignment as text: the same for equal ones."""
    return json.dumps(assignment, sort_keys=True, ensure_ascii=False, default=list)


class Space:
    """Domains by key, in an order in which each comes after those that its `when` asks about.

    Args:
        domains: what varies.
        base: value of each key that a `when` names, where it does not vary.

    Raises:
        ConfigError: conditions that wait for each other.
    """

    def __init__(self, domains: Mapping[str, Domain], base: Mapping[str, Any]) -> None:
        self._base = dict(base)
        self.domains = dict(_in_order(domains))

    def draw(self, pick: Pick) -> Assignment:
        """A trial, each value that counts in it picked by `pick(key, domain)`."""
        found: Assignment = {}
        for key, domain in self.domains.items():
            if self._counts(domain, found):
                found[key] = pick(key, domain)
        return found

    def random(self, trials: int, seed: int) -> list[Assignment]:
        """Different trials at random, a function of the seed: more of them begin as fewer do.

        Fewer than `trials` where the space has no more.
        """
        generator = np.random.default_rng(seed)
        found: dict[str, Assignment] = {}
        for _ in range(_DRAWS_A_TRIAL * trials):
            assignment = self.draw(lambda _, domain: _draw(domain, generator))
            found.setdefault(canonical(assignment), assignment)
            if len(found) == trials:
                break
        return list(found.values())

    def grid(self) -> Iterator[Assignment]:
        """Every trial once.

        Raises:
            ConfigError: a range without steps has no end of values.
        """
        endless = [key for key, domain in self.domains.items() if domain.finite is None]
        if endless:
            raise ConfigError(
                f"{endless[0]} has no end of values",
                where="search.space",
                hint="write choice: [...] or integer: [low, high] instead",
            )
        seen = set()
        for values in itertools.product(*(domain.finite or () for domain in self.domains.values())):
            chosen = dict(zip(self.domains, values, strict=True))
            assignment = self.draw(lambda key, _, chosen=chosen: chosen[key])  # type: ignore[misc]
            if (text := canonical(assignment)) not in seen:
                seen.add(text)
                yield assignment

    def part(self, wanted: Callable[[str], bool]) -> "Space":
        """The keys that are wanted, and those that their conditions ask about."""
        keys: set[str] = set()
        waiting = [key for key in self.domains if wanted(key)]
        while waiting:
            key = waiting.pop()
            if key in self.domains and key not in keys:
                keys.add(key)
                waiting += self.domains[key].when
        return Space({key: domain for key, domain in self.domains.items() if key in keys}, self._base)

    def _counts(self, domain: Domain, found: Mapping[str, Any]) -> bool:
        """Whether a domain's conditions hold. A key that itself does not count is as it stands in the configuration."""
        return all(found.get(key, self._base.get(key)) in values for key, values in domain.when.items())


def _in_order(domains: Mapping[str, Domain]) -> Iterator[tuple[str, Domain]]:
    waiting, done = dict(domains), set[str]()
    while waiting:
        ready = [key for key, domain in waiting.items() if all(k in done or k not in domains for k in domain.when)]
        if not ready:
            raise ConfigError(f"conditions wait for each other: {', '.join(waiting)}", where="search.space")
        for key in ready:
            yield key, waiting.pop(key)
            done.add(key)


def _draw(domain: Domain, generator: np.random.Generator) -> Any:
    if domain.finite is not None:
        return domain.finite[int(generator.integers(len(domain.finite)))]
    if domain.log_uniform is not None:
        value = math.exp(generator.uniform(math.log(domain.low), math.log(domain.high)))
    else:
        value = generator.uniform(domain.low, domain.high)
    return rounded(value, domain)


def rounded(value: float, domain: Domain) -> float:
    """A drawn number in few digits, within its range."""
    return min(max(float(f"{value:.{_SIGNIFICANT}g}"), domain.low), domain.high)
