"""Why vLLM failed, in one line: what reaches the driver are tracebacks within tracebacks that point at its logs."""

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

WRAPPING: Final = ("ActorDiedError", "RayTaskError", "SystemException", "UserCodeException")
LOGGED: Final = re.compile(
    r"\((?:EngineCore|\w*Worker)\S* pid=\d+\) ERROR .*?\] (?:\S+\.)?(?P<error>\w*(?:Error|Exception): .+)$"
)
POINTING: Final = re.compile("root cause|stack trace|background process")
LOG_DELAY: Final = 10.0  # seconds


@contextmanager
def listening(heard: list[str]) -> Iterator[None]:
    """Note the exceptions that vLLM's processes log: what they hand to Ray only points at those.

    Worker logs reach the driver a moment later than errors do, so that an error waits for them.
    """
    from ray._private.ray_logging import global_worker_stdstream_dispatcher as logs  # Ray has no public way

    def hear(batch: dict[str, Any]) -> None:
        found = (match for line in batch["lines"] if (match := LOGGED.search(line)))
        heard.extend(match["error"] for match in found if not POINTING.search(match["error"]))

    logs.add_handler("xlst-ray", hear)
    try:
        yield
    except Exception as error:
        deadline = time.monotonic() + LOG_DELAY
        while POINTING.search(cause(str(error), heard)) and time.monotonic() < deadline:
            time.sleep(0.1)
        raise
    finally:
        logs.remove_handler("xlst-ray")


def cause(told: str, heard: Sequence[str] = ()) -> str:
    """The last exception that a chain of tracebacks names, Ray's wrapping apart, in one line; the one that was heard of
    where it only points at that."""
    named = re.findall(r"^\s*(?:\S+\.)?(\w*(?:Error|Exception)): (.+)$", told, re.MULTILINE)
    named = [pair for pair in named if pair[0] not in WRAPPING] or named
    kind, what = named[-1] if named else ("", told.strip().splitlines()[-1] if told.strip() else "no reason told")
    found = f"{kind}: {what}".removeprefix(": ")
    return (heard[-1] if heard and POINTING.search(found) else found)[:400]
