"""The job of pseudo-labels against a server that counts what it is asked, and what becomes of it under kill -9."""

import importlib.util
import json
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from text_shards import read_labels, write_text_shards

from xlst_ray.cli import run_job
from xlst_ray.stages.pseudo_label import _outside

JOB = Path(__file__).parent.parent.parent / "jobs" / "pseudo_label.py"
KillWhen = Callable[[Sequence[str], Callable[[], bool]], None]


class Server:
    """Shouts sentences back, for 7 tokens read and 3 written; refuses those of `failing`; answers `answers` of them."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.failing: set[str] = set()
        self.answers = 10**9
        self._go_on = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._send(200, {"data": [{"id": "shouter"}]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                sentence = body["messages"][-1]["content"].rsplit("\n", 1)[-1]
                server.asked[sentence] += 1
                if sum(server.asked.values()) > server.answers:
                    server._go_on.wait()
                if sentence in server.failing:
                    self._send(400, {"error": {"message": "no"}})
                    return
                choice = {"message": {"role": "assistant", "content": sentence.upper()}, "finish_reason": "stop"}
                usage = {"prompt_tokens": 7, "completion_tokens": 3}
                self._send(200, {"choices": [choice], "usage": usage})

            def _send(self, status: int, body: dict[str, Any]) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def resume(self) -> None:
        """Answer from now on, also those that wait."""
        self.answers = 10**9
        self._go_on.set()

    def close(self) -> None:
        self.resume()
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def arguments(server: Server, shards: Path, out: Path, *further: str) -> list[str]:
    return [
        f"shards={shards}", f"out={out}", "engine.engine=http", f"engine.http.url={server.url}", "engine.model=shouter",
        "engine.http.concurrency=4", "engine.http.retries=0", "cluster.translators=0", "target=fi", *further,
    ]  # fmt: skip


def start(given: Sequence[str]) -> int:
    spec = importlib.util.spec_from_file_location("job_pseudo_label", JOB)
    assert spec is not None
    assert spec.loader is not None
    job = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(job)
    return run_job(job.LabelJob, job.work, job.__doc__, list(given))


def labels(folder: Path) -> dict[str, str | None]:
    return {name: row["translation"] for name, row in read_labels(folder).items()}


def files(folder: Path) -> dict[Path, int]:
    """When each file was written; scores apart, which are derived."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.parquet") if "scores" not in path.parts}


def manifest(folder: Path) -> Any:
    return json.loads((folder / "manifest.json").read_text())["counts"]


TEXTS = [[f"sentence {shard * 7 + row}" for row in range(10)] for shard in range(60)]  # rows repeat: 423 distinct ones


def test_killed_twice_every_row_is_there_once_and_nothing_finished_is_done_again(
    server: Server, tmp_path: Path, kill_when: KillWhen
) -> None:
    shards, out, kept = tmp_path / "shards", tmp_path / "labels", tmp_path / "translations"
    write_text_shards(shards, TEXTS)
    given = arguments(server, shards, out, "buckets=8")
    command = [sys.executable, str(JOB), *given]
    distinct = {text for shard in TEXTS for text in shard}

    server.answers = 200  # then the engine hangs, in the middle of a bucket
    kill_when(command, lambda: sum(server.asked.values()) > 200)
    server.resume()
    finished = files(kept)
    translated = {row["text"] for path in kept.glob("en-fi-*/*.parquet") for row in pq.read_table(path).to_pylist()}
    assert 100 < len(translated) <= 200
    assert not out.exists() or not files(out)

    first = Counter(server.asked)
    kill_when(command, lambda: len(files(out)) > 3)
    assert server.asked.keys() == distinct
    again = server.asked - first
    assert not set(again) & translated
    assert max(again.values()) == 1
    labelled = files(out)
    assert len(labelled) < len(TEXTS)
    assert not (out / "manifest.json").exists()

    asked = Counter(server.asked)
    assert start(given) == 0
    assert server.asked == asked
    assert finished.items() <= files(kept).items()
    assert labelled.items() <= files(out).items()
    expected = {f"{n}-{row}": text.upper() for n, shard in enumerate(TEXTS) for row, text in enumerate(shard)}
    assert labels(out) == expected
    assert manifest(out)["ok"] == 600


def test_a_server_that_goes_away_ends_the_job_with_one_line_and_the_same_command_goes_on(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_text_shards(tmp_path / "shards", TEXTS)
    server.failing = {text for shard in TEXTS for text in shard}
    given = arguments(server, tmp_path / "shards", tmp_path / "labels")
    url = server.url
    gone = [argument.replace(url, "http://127.0.0.1:1/v1") for argument in given]
    assert start(gone) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert "127.0.0.1:1" in message
    server.failing = set()
    assert start(given) == 0
    assert len(labels(tmp_path / "labels")) == 600


def test_several_targets_another_corpus_and_a_retry_ask_only_for_what_is_missing(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_text_shards(tmp_path / "one", [["a", "b", "a"], ["c", ""]])
    write_text_shards(tmp_path / "two", [["b", "d"]])
    server.failing = {"c"}
    both = ["target=[fi,et]", "engine.prompt.preset=general"]
    assert start(arguments(server, tmp_path / "one", tmp_path / "out", *both)) == 0
    assert server.asked == Counter({"a": 2, "b": 2, "c": 2})  # once for each target
    for target in ("fi", "et"):
        assert labels(tmp_path / "out" / target) == {"0-0": "A", "0-1": "B", "0-2": "A", "1-0": None, "1-1": None}
        counts = manifest(tmp_path / "out" / target)
        assert (counts["ok"], counts["missing"], counts["error"]) == (3, 1, 1)
    assert "5 rows, 3 distinct sentences, 0 of them known already" in capsys.readouterr().out

    server.asked.clear()
    assert start(arguments(server, tmp_path / "two", tmp_path / "out-two")) == 0
    assert server.asked == Counter("d")
    assert "2 distinct sentences, 1 of them known already: 1 to do, 50.0 % saved" in capsys.readouterr().out

    server.asked.clear()
    before = files(tmp_path / "out" / "fi")
    cache = f"cache={tmp_path}/translations"
    retry = arguments(server, tmp_path / "one", tmp_path / "out" / "fi", cache, "--retry-errors")
    assert start(retry) == 0
    assert server.asked == Counter("c")
    assert files(tmp_path / "out" / "fi") == before  # it failed again: no file changes
    server.failing = set()
    assert start(retry) == 0
    assert server.asked == Counter({"c": 2})
    assert labels(tmp_path / "out" / "fi")["1-0"] == "C"
    changed = {path.name for path, time in files(tmp_path / "out" / "fi").items() if before[path] != time}
    assert changed == {"shard-00001.parquet"}
    assert manifest(tmp_path / "out" / "fi")["error"] == 0
    assert start(retry) == 0
    assert server.asked == Counter({"c": 2})


def test_a_retry_sends_what_failed_in_the_retries_of_another_label_set(server: Server, tmp_path: Path) -> None:
    for name, texts in {"one": ["a", "b"], "two": ["b", "c"]}.items():
        write_text_shards(tmp_path / name, [texts])
    server.failing = {"b"}
    cache = f"cache={tmp_path}/translations"
    one = arguments(server, tmp_path / "one", tmp_path / "out-one", cache)
    two = arguments(server, tmp_path / "two", tmp_path / "out-two", cache)
    for further in ([], ["--retry-errors"], ["--retry-errors"]):
        assert start([*one, *further]) == 0
    assert start(two) == 0
    assert server.asked == Counter({"a": 1, "b": 3, "c": 1})
    server.failing = set()
    assert start([*two, "--retry-errors"]) == 0
    assert server.asked["b"] == 4
    assert labels(tmp_path / "out-two") == {"0-0": "B", "0-1": "C"}


def test_a_retry_may_be_the_first_call_for_some_of_its_targets(server: Server, tmp_path: Path) -> None:
    write_text_shards(tmp_path / "one", [["a", "b"]])
    both = ["target=[fi,et]", "engine.prompt.preset=general", "--retry-errors"]
    for _ in range(2):
        assert start(arguments(server, tmp_path / "one", tmp_path / "out", *both)) == 0
    for target in ("fi", "et"):
        assert labels(tmp_path / "out" / target) == {"0-0": "A", "0-1": "B"}


def test_a_phrasebook_that_has_no_sentence_says_what_it_looks_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_text_shards(tmp_path / "shards", [["The cat sleeps."]])
    table = tmp_path / "pairs.tsv"
    table.write_text("en\tfi\nthe cat sleeps\tkissa nukkuu\n")
    engine = ["engine.engine=phrasebook", f"engine.table={table}", "cluster.translators=0", "target=fi"]
    assert start([f"shards={tmp_path}/shards", f"out={tmp_path}/labels", *engine]) == 2
    message = capsys.readouterr().err
    assert "the table has no 'The cat sleeps.'" in message
    assert "case and punctuation included" in message
    assert "--retry-errors" not in message, "which finds the same"


def test_where_all_has_failed_each_retry_asks_again(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_text_shards(tmp_path / "shards", [["a", "b"]])
    given = arguments(server, tmp_path / "shards", tmp_path / "labels")
    server.failing = {"a", "b"}
    for further in ([], ["--retry-errors"], ["--retry-errors"]):
        assert start([*given, *further]) == 2
        assert "no sentence has a translation into fi (2 rejected)" in capsys.readouterr().err
    assert server.asked == Counter({"a": 3, "b": 3})
    server.failing = set()
    assert start(given) == 2
    assert "--retry-errors does, or delete" in capsys.readouterr().err
    assert start([*given, "--retry-errors"]) == 0
    assert labels(tmp_path / "labels") == {"0-0": "A", "0-1": "B"}


def test_a_sample_is_not_sent_beyond_the_cap(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_text_shards(tmp_path / "shards", TEXTS)
    given = arguments(server, tmp_path / "shards", tmp_path / "labels", "price.output=1e6", "price.cap=30")
    assert start([*given, "--limit", "20", "--dry-run"]) == 0
    asked = Counter(server.asked)
    assert start([*given, "--limit", "40", "--dry-run"]) == 2
    assert "price.cap is reached: 60.00 of 30.00 spent" in capsys.readouterr().err
    assert server.asked == asked


def test_a_dry_run_translates_its_sample_alone_and_tells_what_the_whole_takes(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_text_shards(tmp_path / "shards", TEXTS)
    given = arguments(server, tmp_path / "shards", tmp_path / "labels", "price.input=1000", "price.output=2000")
    assert start([*given, "--dry-run"]) == 0
    assert not server.asked
    out = capsys.readouterr().out
    assert "600 rows, 423 distinct sentences, 423 of them to translate" in out
    assert "with --limit 200 so many are translated as a sample" in out
    assert start([*given, "--limit", "40", "--dry-run"]) == 0
    assert sum(server.asked.values()) == 40
    out = capsys.readouterr().out
    assert "  sentence 1" in out
    assert "    -> SENTENCE 1" in out
    assert "7.0 tokens read and 3.0 written; 40 of 40 ok" in out
    assert "2,961 tokens read, 1,269 written, cost 5.50" in out  # 423 x (7 x 0.001 + 3 x 0.002)
    assert "cost 0.52" in out  # of the sample
    assert not (tmp_path / "labels").exists()
    assert start(given) == 0
    assert max(server.asked.values()) == 1  # the sample was kept
    counts = manifest(tmp_path / "labels")["translation"]
    assert (counts["found"], counts["sentences"], counts["input_tokens"]) == (40, 383, 383 * 7)


def test_a_cap_stops_the_job_and_a_higher_one_goes_on(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xlst_ray.mt.translate.CAPPED_PORTION", 4)
    write_text_shards(tmp_path / "shards", TEXTS)
    given = arguments(server, tmp_path / "shards", tmp_path / "labels", "price.output=1e6", "buckets=4")  # 3 each
    assert start([*given, "price.cap=300"]) == 2
    err = capsys.readouterr().err
    assert "price.cap is reached" in err
    assert "run the same command" in err
    spent = 3 * sum(server.asked.values())
    assert 300 <= spent < 300 + 4 * 3  # less than a portion more
    assert start([*given, "price.cap=300"]) == 2
    assert 3 * sum(server.asked.values()) == spent  # what an earlier run has spent counts
    assert start([*given, "price.cap=2000"]) == 0
    assert max(server.asked.values()) == 1


def test_a_changed_threshold_makes_a_page_and_nothing_else(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_text_shards(tmp_path / "shards", [["the old house is red", "yes"]])
    given = arguments(server, tmp_path / "shards", tmp_path / "labels")
    assert start(given) == 0
    out = capsys.readouterr().out
    assert " language" in out or " copied" in out  # it is shouted English
    scores = {path: path.stat().st_mtime_ns for path in (tmp_path / "labels" / "scores").rglob("*.parquet")}
    page, server.asked = (tmp_path / "labels" / "labels.html").read_text(), Counter()
    assert start([*given, "keep.copied=null", "keep.language=null", "keep.untranslated=null"]) == 0
    assert "score en-fi: 2 kept" in capsys.readouterr().out
    assert not server.asked
    assert {path: path.stat().st_mtime_ns for path in scores} == scores
    assert (tmp_path / "labels" / "labels.html").read_text() != page


@pytest.mark.parametrize(
    ("further", "says"),
    [
        (["target=klingon"], "klingon"),
        (["target=[fi,en]"], "the speech is in en already"),
        (["target=[fi,fi]"], "target=fi: is there twice"),
        (["target=fin"], "near it is fi (Finnish)"),
        (["buckets=3"], "buckets must be a power of two: 2 or 4, not 3"),
        (["limit=5"], "limit is the sample of a dry run: add dry_run=true"),
        (["price.cap=5"], "cap needs the price of tokens"),
        (["engine.model=whisperer"], "shouter"),
        (["quality.path=nowhere"], "nowhere: is no folder of a model: it has no config.json"),
        (["quality.path=nowhere", "scores=false"], "quality.path is for scores"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_sent(
    further: list[str], says: str, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_text_shards(tmp_path / "shards", [["a"]])
    assert start(arguments(server, tmp_path / "shards", tmp_path / "labels", *further)) == 2
    assert says in capsys.readouterr().err
    assert not server.asked
    assert not (tmp_path / "labels").exists()


def test_shards_without_transcripts_are_refused(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_text_shards(tmp_path / "shards", [["", " "], [""]])
    assert start(arguments(server, tmp_path / "shards", tmp_path / "labels")) == 2
    assert "no transcript in 3 rows: there is nothing to translate" in capsys.readouterr().err


def test_a_label_folder_of_another_fingerprint_is_refused_and_stays(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_text_shards(tmp_path / "shards", [["a"]])
    given = arguments(server, tmp_path / "shards", tmp_path / "labels")
    assert start(given) == 0
    before, server.asked = files(tmp_path / "labels"), Counter()
    assert start([*given, "engine.sampling.temperature=0.5"]) == 2
    assert "choose another output folder" in capsys.readouterr().err
    assert files(tmp_path / "labels") == before
    assert not server.asked
    assert start([*given, "engine.sampling.temperature=0.5", f"out={tmp_path}/beside"]) == 0
    assert labels(tmp_path / "beside") == labels(tmp_path / "labels")
    assert server.asked == Counter("a")  # another engine's translations are not these


def test_a_job_that_sends_text_elsewhere_says_so_first(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_text_shards(tmp_path / "shards", [["a"]])
    given = arguments(server, tmp_path / "shards", tmp_path / "labels", "scores=false")
    assert (
        start([*given, f"engine.http.url={server.url.replace('127.0.0.1', '127.1')}"]) == 0
    )  # a name, for all it knows
    assert capsys.readouterr().out.startswith("notice: transcripts are sent to 127.1, outside this cluster\n")
    assert start([*given, f"out={tmp_path}/more", "engine.model=shouter"]) == 0
    assert "notice" not in capsys.readouterr().out


def test_text_that_leaves_the_cluster_is_noticed() -> None:
    hosts = {
        "https://api.example.com/v1": "api.example.com",
        "http://8.8.8.8:8000/v1": "8.8.8.8",
        "http://127.0.0.1:8000/v1": "",
        "http://10.0.3.7/v1": "",
        "http://[::1]:8000/v1": "",
        "http://localhost:8000": "",
        "http://llm-service:8000": "",
        "http://llm.cluster.local/v1": "",
    }
    assert {url: _outside(url) for url in hosts} == hosts
