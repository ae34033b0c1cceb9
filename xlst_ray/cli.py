"""The command line of a job: `--config file.yaml key.sub=value ...`, and a help text made from its configuration."""

import argparse
import errno
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from xlst_ray.config import Section, describe, fields, load
from xlst_ray.errors import Stopped, XlstError

S = TypeVar("S", bound=Section)

USAGE_ERROR = 2  # exit status of everything that the user can mend
INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM  # as shells have them
RUN_AGAIN = "the same command goes on from here"
GOES_ON = f"stopped; {RUN_AGAIN}"


def run_job(kind: type[S], work: Callable[[S], str], about: str | None, arguments: Sequence[str] | None = None) -> int:
    """Read the configuration, do the work, print where the result lies; errors of the user's go to stderr.

    Args:
        kind: the job's configuration.
        work: does the job and returns what to print at the end.
        about: the job's docstring, shown by `--help`.
        arguments: the command line; none: that of the process.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(
        description=about,
        epilog="keys (set as key=value or --key value, the last one wins, also over the file):\n" + describe(kind),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file with any of the keys below")
    parser.add_argument("overrides", metavar="key=value", nargs="*", help="such as train.lr=1e-3 or 'arms=[direct]'")
    parsed = parser.parse_intermixed_args(list(_flags_as_keys(kind, sys.argv[1:] if arguments is None else arguments)))
    try:
        with _sigterm_stops():
            print(work(load(kind, parsed.config, parsed.overrides)))
    except XlstError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE_ERROR
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        place = f" ({error.filename})" if error.filename else ""
        print(f"error: {error.strerror}{place}\n  -> make space; {RUN_AGAIN}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        print(GOES_ON, file=sys.stderr)
        return INTERRUPTED
    except Stopped:
        print(GOES_ON, file=sys.stderr)
        return TERMINATED
    return 0


@contextmanager
def _sigterm_stops() -> Iterator[None]:
    """SIGTERM raises `Stopped` within the block; training puts it off until it has a checkpoint."""
    asked = False

    def stop(*_: object) -> None:
        nonlocal asked
        asked = True
        raise Stopped

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except SystemExit:  # what `Stopped` is after its way through `ray.get`
        if asked:
            raise Stopped from None
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _flags_as_keys(kind: type[Section], arguments: Iterable[str]) -> Iterator[str]:
    """`--dry-run` and `--limit 200` as `dry_run=true` and `limit=200`; all else as it is."""
    flags = {f"--{key.replace('_', '-')}": (key, field.annotation is bool) for key, field in fields(kind)}
    remaining = iter(arguments)
    for argument in remaining:
        flag, equals, value = argument.partition("=")
        if flag not in flags:
            yield argument
            continue
        key, switch = flags[flag]
        yield f"{key}={value if equals else 'true' if switch else next(remaining, '')}"
