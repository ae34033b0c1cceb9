"""The engine behind HTTP against a real small server on loopback, with the faults of real ones."""

import json
import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from xlst_ray.errors import ConfigError, TranslationError
from xlst_ray.mt.engines import open_translator
from xlst_ray.mt.llm_options import HttpOptions, PromptOptions
from xlst_ray.mt.options import EngineOptions
from xlst_ray.mt.protocol import Translation, Translator
from xlst_ray.mt.specification import SamplingOptions

Reply = tuple[int, dict[str, str], bytes] | None  # status, headers, body; none: the connection is reset
KEY = "sk-very-secret"


def answer(text: str | None, finish: str = "stop", **message: Any) -> Reply:
    choice = {"message": {"role": "assistant", "content": text, **message}, "text": text, "finish_reason": finish}
    body = {"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}
    return 200, {}, json.dumps(body).encode()


def sentence_of(body: dict[str, Any]) -> str:
    asked: str = body["prompt"] if "prompt" in body else body["messages"][-1]["content"]
    return asked.removesuffix("<sep>").rsplit("\n", 1)[-1]


class Server:
    """Shouts sentences back; `faults` by sentence: what to reply to its first requests."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        self.faults: dict[str, list[Callable[[], Reply]]] = {}
        self.models = (200, {}, json.dumps({"data": [{"id": "shouter"}, {"id": "whisperer"}]}).encode())
        self.under_way = self.most_under_way = 0
        self.together = threading.Barrier(1)
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._send(server.models)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                self._send(server.reply(self.path, body, dict(self.headers)))

            def _send(self, reply: Reply) -> None:
                if reply is None:
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                    return
                status, headers, body = reply
                self.send_response(status)
                for name, value in {**headers, "content-length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def reply(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> Reply:
        sentence = sentence_of(body)
        with self._lock:
            self.requests.append((path, body, headers))
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
            faults = self.faults.get(sentence, [])
            fault = faults.pop(0) if faults else None
        try:
            if self.together.parties > 1:
                self.together.wait(timeout=20)
            return answer(sentence.upper()) if fault is None else fault()
        finally:
            with self._lock:
                self.under_way -= 1

    def asked(self) -> Counter[str]:
        return Counter(sentence_of(body) for _, body, _ in self.requests)

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def translator(server: Server, *, model: str = "shouter", url: str = "", **changes: Any) -> Translator:
    http = {"url": url or server.url, "backoff": 0.001, "retries": 2, "timeout": 20.0, **changes.pop("http", {})}
    options = EngineOptions(engine="http", model=model, http=HttpOptions(**http), **changes)
    return open_translator(options, "en", "fi")


def status(code: int, **headers: str) -> Callable[[], Reply]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda: (code, named, json.dumps({"error": {"message": "not this\ntime"}}).encode())


def test_answers_come_back_in_order_with_their_tokens(server: Server) -> None:
    texts = [f"sentence {number}" for number in range(50)]
    results = translator(server).translate(texts)
    assert results == [Translation(text.upper(), "ok", None, 7, 3) for text in texts]
    assert server.asked() == Counter(texts)
    assert translator(server).translate([]) == []


def test_requests_are_of_openais_form(server: Server) -> None:
    translator(server).translate(["Hello."])
    translator(
        server,
        prompt=PromptOptions(chat_template_kwargs={"enable_thinking": False}),
        sampling=SamplingOptions(temperature=0.5, top_p=0.9, seed=3),
        http={"body": {"service_tier": "flex"}, "limit_field": "max_completion_tokens"},
    ).translate(["Hello."])
    translator(server, prompt=PromptOptions(preset="trained-lm")).translate(["Hello."])
    (chat, first, _), (_, second, _), (plain, third, _) = server.requests
    assert (chat, plain) == ("/v1/chat/completions", "/v1/completions")
    assert [message["role"] for message in first.pop("messages")] == ["system", "user"]
    assert first == {"model": "shouter", "max_tokens": 28, "temperature": 0.0}
    del second["messages"]
    assert second == {
        "model": "shouter",
        "max_completion_tokens": 28,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 3,
        "service_tier": "flex",
        "chat_template_kwargs": {"enable_thinking": False},
    }
    assert third == {"model": "shouter", "max_tokens": 28, "temperature": 0.0, "prompt": "Hello.<sep>"}


def test_as_many_requests_are_under_way_as_asked_for_and_no_more(server: Server) -> None:
    server.together = threading.Barrier(6)  # no request is answered before six are there
    translator(server, http={"concurrency": 6}).translate([f"sentence {number}" for number in range(24)])
    assert server.most_under_way == 6


@pytest.mark.parametrize(
    "fault",
    [
        status(429, retry_after="0"),
        status(500),
        status(503, retry_after="Wed, 21 Oct 2015 07:28:00 GMT"),
        status(502, retry_after="soon"),
        lambda: None,
        lambda: (200, {}, b"<html>busy</html>"),
        lambda: (200, {}, b'{"choices": []}'),
        lambda: (200, {}, b'{"choices": [{"message": {"content": 5}}]}'),
        lambda: (200, {}, b'"text"'),
    ],
    ids=["429", "500", "503", "502", "reset", "html", "no choice", "number", "string"],
)
def test_what_passes_is_tried_again(server: Server, fault: Callable[[], Reply]) -> None:
    server.faults["b"] = [fault, fault]
    assert [result.text for result in translator(server).translate(["a", "b", "c"])] == ["A", "B", "C"]
    assert server.asked() == Counter(a=1, b=3, c=1)


def test_a_sentence_that_goes_on_failing_is_a_row_with_its_reason(server: Server) -> None:
    server.faults = {
        "b": [status(500)] * 9,
        "c": [lambda: None] * 9,
        "d": [lambda: (200, {}, b"{}")] * 9,
        "e": [status(400)] * 9,
        "f": [lambda: answer("HALF A SENT", "length")],
        "g": [lambda: answer(None, "content_filter")],
        "h": [lambda: answer(None, refusal="no")],
        "i": [lambda: answer(None)],
    }
    results = translator(server, http={"concurrency": 1}).translate(list("abcdefghi"))
    assert [(result.status, result.error) for result in results] == [
        ("ok", None),
        ("error", "HTTP 500"),
        ("error", "connection: RemoteProtocolError"),
        ("error", "garbage: the answer is not of OpenAI's form"),
        ("error", "rejected: HTTP 400 not this time"),
        ("error", "too long"),
        ("error", "refused: by the server's filter"),
        ("error", "refused: by the server's filter"),
        ("error", "empty"),
    ]
    assert server.asked()["e"] == 1, "what is wrong with the request itself is not sent again"
    assert results[5].output_tokens == 3, "what was written is paid for"


def test_a_slow_answer_is_a_timeout(server: Server) -> None:
    let_go = threading.Event()

    def slow() -> Reply:
        let_go.wait(timeout=20)
        return answer("LATE")

    server.faults["b"] = [slow]
    results = translator(server, http={"timeout": 0.5, "retries": 0}).translate(["a", "b"])
    let_go.set()
    assert results[1] == Translation(None, "error", "timeout: no answer within 0.5 s")
    assert results[0].text == "A"


def test_a_few_sentences_that_all_fail_are_their_own_errors_while_the_server_answers(server: Server) -> None:
    server.faults = {name: [status(503)] * 2 for name in "ab"}
    results = translator(server, http={"retries": 1, "backoff": 0.01}).translate(["a", "b"])
    assert results == [Translation(None, "error", "HTTP 503")] * 2


def test_retry_after_is_waited_for_and_has_a_bound(server: Server) -> None:
    server.faults["a"] = [status(429, retry_after="1")]
    began = time.monotonic()
    translator(server).translate(["a"])
    assert time.monotonic() - began >= 1.0
    server.faults["a"] = [status(429, retry_after="3600")]
    assert translator(server, http={"max_backoff": 0.01}).translate(["a"])[0].text == "A"


def test_a_server_that_is_gone_stops_the_work(server: Server) -> None:
    engine = translator(server)
    server.close()
    with pytest.raises(TranslationError, match="3 sentences in a row got no answer, the last one for: connection"):
        engine.translate(["a", "b", "c"])


@pytest.mark.parametrize(("code", "kind"), [(401, ConfigError), (403, ConfigError), (404, TranslationError)])
def test_what_is_wrong_for_all_stops_the_work_at_once(server: Server, code: int, kind: type[Exception]) -> None:
    server.faults = {text: [status(code)] * 9 for text in "abc1"}
    engine = translator(server, http={"concurrency": 1})
    engine.translate(["first"])
    with pytest.raises(kind, match=f"HTTP {code}"):
        engine.translate(list("abc"))
    assert server.asked() == Counter(["first", "a", *(["1"] if code == 403 else [])]), "a 403 may be a sentence's own"


def test_what_the_server_forbids_of_one_sentence_is_its_error(server: Server) -> None:
    """Also of the first: the server is asked for a sentence that nobody can object to."""
    server.faults = {text: [status(403)] * 9 for text in "ac"}
    results = translator(server, http={"concurrency": 1}).translate(list("abc"))
    forbidden = (None, "rejected: HTTP 403 not this time")
    assert [(result.text, result.error) for result in results] == [forbidden, ("B", None), forbidden]
    assert server.asked() == Counter({"a": 1, "b": 1, "c": 1, "1": 2})


@pytest.mark.parametrize("busy", [0, 1])
def test_a_server_that_rejects_every_request_stops_the_work(server: Server, busy: int) -> None:
    """`busy`: times that it does not answer as it is asked for the sentence that nobody can object to."""
    texts = [f"sentence {number}" for number in range(40)]
    server.faults = {text: [status(422)] for text in texts} | {"1": [*[status(503)] * busy, status(422)]}
    says = rf"rejects even '1', after {16 * (busy + 1)} sentences in a row: .*HTTP 422 not this time(.|\n)*limit_field"
    with pytest.raises(TranslationError, match=says):
        translator(server, http={"concurrency": 1}).translate(texts)
    assert server.asked() == Counter([*texts[: 16 * (busy + 1)], *["1"] * (busy + 1)])


def test_sentences_that_are_all_rejected_are_their_own_errors_where_another_is_not(server: Server) -> None:
    texts = [f"sentence {number}" for number in range(40)]
    server.faults = {text: [status(422)] for text in texts}
    server.faults[texts[16]] = [status(503)] * 3
    results = translator(server, http={"concurrency": 1}).translate(texts)
    assert Counter(result.error for result in results) == {"rejected: HTTP 422 not this time": 39, "HTTP 503": 1}
    assert server.asked()["1"] == 2


def test_the_key_is_sent_and_never_told(
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ConfigError, match="environment variable MY_KEY is not set"):
        translator(server, http={"key_env": "MY_KEY"})
    monkeypatch.setenv("MY_KEY", KEY)
    engine = translator(server, http={"key_env": "MY_KEY"})
    engine.translate(["a"])
    assert server.requests[-1][2]["Authorization"] == f"Bearer {KEY}"
    server.faults["b"] = [status(401)]
    with pytest.raises(ConfigError, match="refuses the key in MY_KEY") as refusal:
        engine.translate(["b"])
    captured = capsys.readouterr()
    for told in (str(refusal.value), caplog.text, captured.out, captured.err, repr(refusal.getrepr())):
        assert KEY not in told


def test_opening_sees_whether_server_and_model_are_there(server: Server) -> None:
    with pytest.raises(ConfigError, match=r"has no model shout(.|\n)*it has shouter"):
        translator(server, model="shout")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(ConfigError, match="no server answers"):
            translator(server, url=f"http://127.0.0.1:{unused.getsockname()[1]}/v1")
    server.models = (404, {}, b"no such page")
    assert translator(server, model="shout").translate(["a"])[0].text == "A", "a server that lists no models works"
    server.models = (401, {}, b"{}")
    with pytest.raises(ConfigError, match="the server wants a key"):
        translator(server)
    assert server.asked() == Counter(a=1), "nothing is translated at opening"
