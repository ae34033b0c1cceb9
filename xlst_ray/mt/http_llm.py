"""The engine behind HTTP: any server with OpenAI's interface, asked for many sentences at once.

What passes (429, 5xx, a time-out, a lost connection, an answer that is no JSON) is tried again, waiting twice as long
each time or as long as `Retry-After` says. What stays wrong for one sentence is that sentence's error; what is wrong
for all (the key, the model, a server that is gone) stops the work, so that nothing is paid for in vain.
Interface: OpenAI's API reference (chat/completions, completions, models); Retry-After: RFC 9110, 10.2.3.
"""

import asyncio
import dataclasses
import difflib
import os
import random
import time
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from typing import Any, Final, NoReturn

import httpx2

from xlst_ray.errors import ConfigError, TranslationError
from xlst_ray.mt.llm_options import HttpOptions
from xlst_ray.mt.options import EngineOptions
from xlst_ray.mt.protocol import Translation

OPENING_ATTEMPTS: Final = 3
FAILURES_IN_A_ROW: Final = 16  # sentences without an answer after all attempts, before the server counts as gone
REJECTED: Final = "rejected"  # the reason of a sentence whose request was wrong
FORBIDDEN: Final = 403  # a key, or what a sentence says
HARMLESS: Final = "1"
_FOR_ALL: Final = frozenset({401, 402, 404, 405})
_PASSING: Final = frozenset({408, 409, 425, 429})


@dataclasses.dataclass(frozen=True)
class _Setback:
    """Why an attempt failed that may succeed when it is made again; `wait`: the seconds that the server asks for."""

    reason: str
    wait: float = 0.0


class HttpLLM:
    """A language model behind a server.

    Raises:
        ConfigError: no server at the URL, no such model there, a key that is missing or refused, or a language that
            the prompt's models lack.
        DataError: a template, examples or glossary that cannot be read.
    """

    def __init__(self, options: EngineOptions, source: str, target: str) -> None:
        if options.http.url is None or options.model is None:
            raise ConfigError("engine http needs http.url and model")
        self._http, self._model = options.http, options.model
        self._url = options.http.url.rstrip("/")
        self._specification = options.specify(source, target)
        self._headers = _headers(options.http)
        self._failures = self._rejections = 0  # in a row: without an answer, and with one that rejects
        self._refuse_what_is_not_there()

    def translate(self, texts: Sequence[str]) -> list[Translation]:
        """See `Translator.translate`."""
        return asyncio.run(self._translate(texts))

    async def _translate(self, texts: Sequence[str]) -> list[Translation]:
        results = [Translation(None, "error", "not asked")] * len(texts)
        positions = iter(range(len(texts)))
        limits = httpx2.Limits(max_connections=self._http.concurrency)
        async with httpx2.AsyncClient(headers=self._headers, timeout=self._http.timeout, limits=limits) as client:

            async def work() -> None:
                for position in positions:
                    results[position] = await self._ask(client, texts[position], len(texts))

            await asyncio.gather(*(work() for _ in range(min(self._http.concurrency, len(texts)))))
        return results

    async def _ask(self, client: httpx2.AsyncClient, sentence: str, sentences: int) -> Translation:
        """One sentence, with further attempts; `sentences`: of the whole call."""
        body = self._body(sentence)
        path = "chat/completions" if "messages" in body else "completions"
        setback = _Setback("")
        for attempt in range(self._http.retries + 1):
            if attempt:
                await asyncio.sleep(self._wait(attempt, setback))
            answer = await self._attempt(client, f"{self._url}/{path}", body, sentence)
            if isinstance(answer, Translation):
                await self._judge(client, f"{self._url}/{path}", answer)
                return answer
            setback = answer
        self._failures += 1
        if self._failures >= FAILURES_IN_A_ROW or (self._failures >= sentences and await self._is_gone(client)):
            raise TranslationError(
                f"{self._failures} sentences in a row got no answer, the last one for: {setback.reason}",
                where=self._url,
                hint="is the server up, and http.concurrency not too much for it? The same command goes on from here",
            )
        return Translation(None, "error", setback.reason)

    async def _judge(self, client: httpx2.AsyncClient, url: str, answer: Translation) -> None:
        """What the server says of a sentence. One that rejects many in a row, or forbids one, is asked for a sentence
        that nobody can object to: it may be the requests that are wrong, or the key, and then all of them are.

        Raises:
            ConfigError, TranslationError: it rejects that, too.
        """
        self._failures = 0
        self._rejections = self._rejections + 1 if _is_rejected(answer) else 0
        forbids = _is_rejected(answer, FORBIDDEN) and self._rejections == 1
        if not forbids and (not self._rejections or self._rejections % FAILURES_IN_A_ROW):
            return
        probed = await self._attempt(client, url, self._body(HARMLESS), HARMLESS)
        if not isinstance(probed, Translation) or not _is_rejected(probed):
            return
        if _is_rejected(probed, FORBIDDEN):
            _refuse(FORBIDDEN, url, self._http, self._model)
        raise TranslationError(
            f"the server rejects even {HARMLESS!r}, after {self._rejections} sentences in a row: {answer.error}",
            where=self._url,
            hint="what does it not take? See http.limit_field, http.body, engine.sampling and engine.prompt",
        )

    async def _is_gone(self, client: httpx2.AsyncClient) -> bool:
        """Whether the server answers nothing at all: where there were few sentences, it may have been their fault."""
        try:
            return (await client.get(f"{self._url}/models")).status_code >= 500
        except httpx2.TransportError:
            return True

    async def _attempt(
        self, client: httpx2.AsyncClient, url: str, body: dict[str, Any], sentence: str
    ) -> Translation | _Setback:
        try:
            response = await client.post(url, json=body)
        except httpx2.TimeoutException:
            return _Setback(f"timeout: no answer within {self._http.timeout:g} s")
        except httpx2.TransportError as error:
            return _Setback(f"connection: {type(error).__name__}")
        status = response.status_code
        if status in _FOR_ALL:
            _refuse(status, url, self._http, self._model)
        if status in _PASSING or status >= 500:
            return _Setback(f"HTTP {status}", _retry_after(response.headers.get("retry-after", "")))
        if status != 200:
            return Translation(None, "error", f"{REJECTED}: HTTP {status} {_message(response)}".rstrip())
        try:
            return self._read(sentence, response.json())
        except (ValueError, LookupError, TypeError, AttributeError):
            return _Setback("garbage: the answer is not of OpenAI's form")

    def _read(self, sentence: str, answer: Any) -> Translation:
        choice, usage = answer["choices"][0], answer.get("usage") or {}
        message = choice.get("message") or {"content": choice.get("text")}
        content, reason = message.get("content"), choice.get("finish_reason")
        if reason == "content_filter" or message.get("refusal"):
            result = Translation(None, "error", "refused: by the server's filter")
        elif content is not None and not isinstance(content, str):
            raise TypeError("content is no text")
        else:
            result = self._specification.read(sentence, content or "", finished=reason != "length")
        read, written = (int(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens"))
        return dataclasses.replace(result, input_tokens=read, output_tokens=written)

    def _body(self, sentence: str) -> dict[str, Any]:
        specification = self._specification
        prompt, sampling = specification.prompt(sentence), specification.sampling
        body: dict[str, Any] = {
            "model": self._model,
            self._http.limit_field: specification.max_tokens(sentence),
            "temperature": sampling.temperature,
        }
        if sampling.temperature > 0:
            body |= {"top_p": sampling.top_p, "seed": sampling.seed}
        if specification.template.stop:
            body["stop"] = list(specification.template.stop)
        if isinstance(prompt, str):
            return {**body, "prompt": prompt, **self._http.body}
        if specification.chat_template_arguments:
            body["chat_template_kwargs"] = specification.chat_template_arguments
        return {**body, "messages": prompt, **self._http.body}

    def _wait(self, attempt: int, setback: _Setback) -> float:
        doubled = (
            self._http.backoff * 2.0 ** (attempt - 1) * random.uniform(0.5, 1.0)
        )  # apart, so as not to return at once
        return min(max(doubled, setback.wait), self._http.max_backoff)

    def _refuse_what_is_not_there(self) -> None:
        """One free request before any work: is there a server, does it take the key, has it the model?"""
        url = f"{self._url}/models"
        for attempt in range(OPENING_ATTEMPTS):
            try:
                response = httpx2.get(url, headers=self._headers, timeout=min(self._http.timeout, 30.0))
                break
            except httpx2.TransportError as error:
                if attempt == OPENING_ATTEMPTS - 1:
                    raise ConfigError(
                        f"no server answers ({type(error).__name__})", where=url, hint="start it, or mend http.url"
                    ) from None
                time.sleep(self._http.backoff)
        if response.status_code in (401, 403):
            _refuse(response.status_code, url, self._http, self._model)
        try:
            names = [str(entry["id"]) for entry in response.json()["data"]]
        except (ValueError, LookupError, TypeError):
            return  # not every server lists its models; the first sentence will tell
        if names and self._model not in names:
            near = difflib.get_close_matches(self._model, names, n=3, cutoff=0.4) or names[:5]
            raise ConfigError(f"has no model {self._model}", where=url, hint=f"it has {', '.join(near)}")


def _is_rejected(answer: Translation, status: int | None = None) -> bool:
    """Whether the request was wrong, and the server said so with this status; none: with any."""
    return (answer.error or "").startswith(REJECTED if status is None else f"{REJECTED}: HTTP {status}")


def _headers(options: HttpOptions) -> dict[str, str]:
    if options.key_env is None:
        return {}
    key = os.environ.get(options.key_env, "").strip()
    if not key:
        raise ConfigError(
            f"the environment variable {options.key_env} is not set",
            where="http.key_env",
            hint="set it where the job runs; on a cluster, in the job's runtime environment (env_vars)",
        )
    return {"Authorization": f"Bearer {key}"}


def _refuse(status: int, url: str, options: HttpOptions, model: str) -> NoReturn:
    """What a status says that holds for every sentence."""
    if status in (401, 403):
        what = (
            "the server wants a key" if options.key_env is None else f"the server refuses the key in {options.key_env}"
        )
        raise ConfigError(f"{what} (HTTP {status})", where=url, hint="name its environment variable in http.key_env")
    if status == 402:
        raise TranslationError("the server wants payment (HTTP 402)", where=url)
    raise TranslationError(
        f"the server has no such interface or no model {model} (HTTP {status})",
        where=url,
        hint="http.url must end before /chat/completions, mostly in /v1",
    )


def _retry_after(value: str) -> float:
    """Seconds that a Retry-After header asks for: a number, or a date; 0 where it says nothing."""
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0


def _message(response: httpx2.Response) -> str:
    """The server's own words on what is wrong with a request, shortened to a line."""
    try:
        error = response.json()["error"]
        text = str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, LookupError, TypeError):
        text = response.text
    return " ".join(text.split())[:160]
