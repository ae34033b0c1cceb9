"""A job on a cluster that is there: submitted, followed to its end, and submitted again where it was stopped."""

import asyncio
import os
import re
import shlex
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from xlst_ray import storage
from xlst_ray.config import Section, option
from xlst_ray.errors import ConfigError, DataError, Stopped
from xlst_ray.progress import RUN_VARIABLE, say

RECORDS = "runs/submissions"  # below the working folder: what was submitted, for `resume`
CONNECTION_TRIES = 5
SECONDS_BETWEEN_TRIES = 3.0
INTERRUPTED, TERMINATED = 130, 143  # exit statuses where following is interrupted, and of a job that was stopped
SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL", re.IGNORECASE)


class SubmitOptions(Section):
    """Where a job goes, what goes with it, and what its driver asks for. The job itself stands behind `--`."""

    address: str | None = option(
        None, "dashboard of the cluster, `http://host:8265`; none: $RAY_API_SERVER_ADDRESS, else this machine's"
    )
    token_file: str | None = option(
        None,
        "file with the cluster's token; none: with RAY_AUTH_MODE=token that of $RAY_AUTH_TOKEN, $RAY_AUTH_TOKEN_PATH "
        "or ~/.ray/auth_token",
    )
    working_dir: str = option(".", "folder that is sent along and is the job's working folder")
    exclude: tuple[str, ...] = option((), "what of it stays here, as in .gitignore, besides .gitignore and .rayignore")
    pass_env: tuple[str, ...] = option(
        (), "names of environment variables to pass; who may submit to the cluster can read their values there"
    )
    stop_seconds: int = option(120, "between SIGTERM and SIGKILL where the job is stopped: for a checkpoint", ge=1)
    cpus: float = option(0.0, "of the driver; with no CPUs, GPUs and resources it runs on the head", ge=0)
    gpus: float = option(0.0, "of the driver", ge=0)
    memory: float = option(0.0, "of the driver", unit="GiB", ge=0)
    resources: dict[str, float] = option({}, "of the driver, by the cluster's own names")
    name: str | None = option(None, "submission id; none: made from the time", pattern=r"^\w[\w.-]*$")
    resume: str | None = option(
        None, "submission id: the same again, as it stands in runs/submissions; where it still runs, it is followed"
    )
    follow: bool = option(True, "show the job's output to its end and exit as it does")


def submit(options: SubmitOptions, command: Sequence[str]) -> int:
    """Submit `command`, or the one of an earlier submission, and follow it; returns its exit status.

    Raises:
        ConfigError: no command, no such submission, no cluster at the address, a token that it refuses, a variable
            that is not set, a configuration file that does not go along.
    """
    if options.resume is not None:
        if command:
            raise ConfigError("resume submits the same command again: leave out what stands behind --")
        options, command = _recorded(options)
    elif not command:
        raise ConfigError("no command to submit", hint="write it behind --: jobs/submit.py -- python jobs/run.py ...")
    folder = Path(options.working_dir).resolve()
    entry_point = shlex.join(_as_seen_from(folder, command))
    client = _client(options)
    if options.resume is not None and _runs(client, options.resume):
        say(f"{options.resume} still runs: following it")
        return follow(client, options.resume)
    _refuse_twin(client, entry_point)
    name = options.name or f"xlst-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{uuid.uuid4().hex[:4]}"
    _send(client, options, name, entry_point, folder)
    record = {"options": options.replace(name=None, resume=None).resolved(), "command": list(command)}
    storage.write_json(str(folder / RECORDS / f"{name}.json"), record)
    say(f"submitted {name} to {client.get_address()}: {entry_point}")
    return follow(client, name) if options.follow else 0


def _recorded(options: SubmitOptions) -> tuple[SubmitOptions, list[str]]:
    """An earlier submission, with the address and token of this one where they are given; followed as this one asks."""
    url = str(Path(options.working_dir).resolve() / RECORDS / f"{options.resume}.json")
    try:
        record = storage.read_json(url)
    except DataError as error:
        raise ConfigError(f"no such submission ({error.what})", where=url, hint="is working_dir the same?") from None
    changes = {name: getattr(options, name) for name in {*options.model_fields_set, "working_dir", "follow"}}
    return SubmitOptions.model_validate({**record["options"], **changes}), record["command"]


def _as_seen_from(folder: Path, command: Sequence[str]) -> list[str]:
    """The command with the configuration file as a path within the folder, which alone is there on the cluster."""
    seen = list(command)
    for place, argument in enumerate(seen):
        file = Path(argument.removeprefix("--config="))
        if not (argument.startswith("--config=") or (place and seen[place - 1] == "--config")):
            continue
        absolute = (folder / file).resolve()
        if not absolute.is_relative_to(folder) or not absolute.is_file():
            raise ConfigError(
                f"is no file below {folder}, which is what goes along", where=str(file), hint="copy it there"
            )
        seen[place] = argument.replace(str(file), str(absolute.relative_to(folder)))
    return seen


def _client(options: SubmitOptions) -> JobSubmissionClient:
    headers = None
    if options.token_file is not None:  # Ray has read its environment already
        file = Path(options.token_file).expanduser()
        if not file.is_file():
            raise ConfigError(
                "no such file", where=f"token_file={file}", hint="ray get-auth-token --generate makes one"
            )
        headers = {"Authorization": f"Bearer {file.read_text(encoding='utf-8').strip()}"}
    try:
        return JobSubmissionClient(options.address, headers=headers)
    except AuthenticationError as error:
        raise ConfigError(
            f"refuses the token ({str(error).splitlines()[0]})",
            where=f"address={options.address}",
            hint="set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN, or token_file, to what the cluster was started with",
        ) from None
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"no cluster answers ({str(error).splitlines()[0]})",
            where=f"address={options.address}",
            hint="`ray dashboard cluster.yaml` or `kubectl port-forward` brings its port 8265 here",
        ) from None


def _send(client: JobSubmissionClient, options: SubmitOptions, name: str, entry_point: str, folder: Path) -> None:
    missing = [variable for variable in options.pass_env if variable not in os.environ]
    if missing:
        raise ConfigError(f"{', '.join(missing)} is not set here", where="pass_env")
    variables = {variable: os.environ[variable] for variable in options.pass_env}
    for variable in variables:
        if SECRET.search(variable):
            say(f"{variable} goes along: who may submit to this cluster can read it; prefer an identity of the nodes")
    variables |= {"RAY_JOB_STOP_WAIT_TIME_S": str(options.stop_seconds), RUN_VARIABLE: name}
    environment = {"working_dir": str(folder), "excludes": list(options.exclude), "env_vars": variables}
    try:
        client.submit_job(
            entrypoint=entry_point,
            submission_id=name,
            runtime_env=environment,
            entrypoint_num_cpus=options.cpus or None,
            entrypoint_num_gpus=options.gpus or None,
            entrypoint_memory=int(options.memory * 2**30) or None,
            entrypoint_resources=options.resources or None,
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(f"cannot be submitted ({error})", where=name) from None


def _runs(client: JobSubmissionClient, name: str) -> bool:
    """Whether the cluster knows the submission and it has not ended: a new cluster knows none."""
    return any(job.submission_id == name and not job.status.is_terminal() for job in client.list_jobs())


def _refuse_twin(client: JobSubmissionClient, entry_point: str) -> None:
    """Two drivers of one command would write into one workspace."""
    twins = [job.submission_id for job in client.list_jobs() if job.entrypoint == entry_point]
    for name in filter(None, twins):
        if _runs(client, name):
            raise ConfigError(
                "the same command runs already", where=name, hint=f"jobs/submit.py resume={name} follows it"
            )


def follow(client: JobSubmissionClient, name: str) -> int:
    """Show a job's output until it ends, over lost connections; returns its exit status.

    Raises:
        ConfigError: the cluster does not answer any more.
    """
    shown, failures = Shown(), 0
    try:
        while True:
            try:
                asyncio.run(_show(client, name, shown))
                details = client.get_job_info(name)
                failures = 0
                if details.status.is_terminal():
                    return _exit_status(details)
            except (OSError, RuntimeError, aiohttp.ClientError) as error:
                failures += 1
                if failures == CONNECTION_TRIES:
                    hint = f"once a cluster is there again: jobs/submit.py resume={name}"
                    raise ConfigError(f"the cluster does not answer ({error})", where=name, hint=hint) from None
            time.sleep(SECONDS_BETWEEN_TRIES)
    except (KeyboardInterrupt, Stopped):
        say(f"{name} goes on. Follow it: jobs/submit.py resume={name}   Stop it: ray job stop {name}")
        return INTERRUPTED


@dataclass
class Shown:
    """How many characters of a job's output have been printed: it outlives the connection that brought them."""

    characters: int = 0


async def _show(client: JobSubmissionClient, name: str, shown: Shown) -> None:
    """Print what is new of the output, until it ends; a connection brings it from its beginning."""
    seen = 0
    async for text in client.tail_job_logs(name):
        new = text[max(0, shown.characters - seen) :]
        seen += len(text)
        shown.characters = max(seen, shown.characters)
        if new:
            say(new.removesuffix("\n"))


def _exit_status(details: JobDetails) -> int:
    say(f"{details.submission_id}: {details.status.value.lower()}")
    if details.status == JobStatus.SUCCEEDED:
        return 0
    if details.status == JobStatus.STOPPED:
        return TERMINATED
    code: Any = details.driver_exit_code
    if code is None:
        say(str(details.message))
    return int(code or 1)
