"""Queries by rule and by language models: what may be sent, which replies are used, what is lost if killed, what no file holds.

The service is a real server on this machine that answers as a script says.
"""

import contextlib
import functools
import http.server
import json
import logging
import os
import re
import subprocess
import sys
import threading
import traceback
from types import SimpleNamespace

import polars as pl
import pytest
import tiny

from cardioembed_lib import files
from cardioembed_study import paths, records, remote, settings
from cardioembed_study.corpus import manifests, pairs, passages
from cardioembed_study.queries import asking, rules, study, tables, writers
from cardioembed_study.retrieval import pools
from cardioembed_study.training import mixture
from cardioembed_study.workflow import publish

KEY = "sk-Qz7-wXv9-secret"
TEXTS = {  # a sentence, and its paraphrase as a good model writes it
    "The septum usually parts the two halves of the heart without any gap.": "Without any gap, a wall called the septum keeps "
    "the two sides of the heart apart, as a rule.",
    "Bisoprolol should slow the pulse of most patients within 2 hours.": "Within 2 hours most people who take bisoprolol have "
    "a pulse that is slower.",
    "Clots that form in the auricle may travel to the brain.": "From the auricle clots can be carried to the brain.",
    "A stent holds the narrowed vessel open for years.": "For years the narrowed vessel is kept from closing by a stent.",
}
CHILD = """
import sys
from cardioembed_study import settings
from cardioembed_study.queries import study
given = {"profile": "mine", "writer": "service", "model": "a/model", "service": sys.argv[1], "at_a_time": 1}
p = settings.check("01_queries", given)
study.write(p, study.plan(p))
"""


def good(asked: str) -> str:
    """Return what a good model answers: queries with words of the passage in another order, or the known paraphrase."""
    passage = asked.rsplit(": ", 1)[1]
    if "other words and" in asked:
        return json.dumps({"paraphrase": TEXTS[passage]})
    first, *_, last = re.findall(r"\w+", passage)
    sign, mark = re.search("keywords|questions|done", asked)[0], "?" * ("question mark" in asked)
    numbers = range(int(re.search(r"\d+", asked)[0]))
    made = [{"query": f"{last} {sign} {first} {n}{mark}", "relevance": 3 - n} for n in numbers]
    return "Here it is:\n```json\n" + json.dumps({"queries": made}) + "\n```"


def answer(text: str, finish: str = "stop") -> dict:
    usage = {"prompt_tokens": 100, "completion_tokens": 10}
    return {"choices": [{"message": {"content": text}, "finish_reason": finish}], "usage": usage}


@pytest.fixture
def service(monkeypatch):
    """A server on the loopback: ``script`` holds the next answers, each ``(status, headers, body)``; then all is good.

    A body of ``None`` is the good one; ``"cut"`` breaks off half-way; ``"hold"`` never answers until ``go`` is set.
    """
    pytest.importorskip("openai", reason="openai is in the test extra")
    state = SimpleNamespace(script=[], asked=[], headers=[], under_way=0, most=0)
    state.go, state.held, lock = threading.Event(), threading.Semaphore(0), threading.Lock()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                state.under_way += 1
                state.most = max(state.most, state.under_way)
                state.asked.append(question)
                state.headers.append({k.lower(): v for k, v in self.headers.items()} | {"path": self.path})
                status, headers, body = state.script.pop(0) if state.script else (200, {}, None)
            if body == "hold":
                state.held.release()
                state.go.wait(300)
            content = answer(good(question["messages"][1]["content"])) if body in (None, "cut", "hold") else body
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            with lock:
                state.under_way -= 1
            with contextlib.suppress(OSError):  # the reader was killed or gave up, as the test meant
                self.send_response(status)
                sent = {"Content-Length": str(len(data)), "Content-Type": "application/json", **headers}
                for name, value in sent.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data[: len(data) // 2] if body == "cut" else data)

        def log_message(self, *_):
            pass

    monkeypatch.setenv("CARDIOEMBED_LLM_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        state.url = f"http://127.0.0.1:{server.server_port}/v1"
        yield state
        state.go.set()
        server.shutdown()


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """A profile ``mine`` whose corpus is ``TEXTS``, of the primer's manifest, a document each."""
    monkeypatch.setenv("CARDIOEMBED_ARTIFACTS", str(tmp_path))
    splits = ["train", "train", "dev", "test"]
    rows = [
        (f"primer:d{n}:00000", "primer", f"d{n}", "cardiology" if n else "other", "Title", "sentence", [], text, split)
        for n, (text, split) in enumerate(zip(TEXTS, splits, strict=True))
    ]
    rows.append(("primer:d0:00001", "primer", "d0", "other", "Title", "glossary", ["septum"], "A wall.", "train"))
    frame = pl.DataFrame(rows, schema={**passages.SCHEMA, "split": pl.String}, orient="row")
    with files.replacing(tmp_path / "mine" / "corpus" / "passages.parquet") as aside:
        frame.write_parquet(aside)
    return tmp_path / "mine"


def given(service=None, **changes):
    by = {"writer": "service", "model": "a/model", "service": service.url} if service else {}
    return settings.check("01_queries", {"profile": "mine", **by, **changes})


def written(p):
    return study.write(p, study.plan(p))


def everything(folder):
    """Return all bytes that lie below a folder."""
    return b"\n".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def without_versions(record):
    return {key: record[key] for key in ("metrics", "counts", "params", "status")}


def test_a_good_writer_gives_queries_of_each_type_and_pairs_that_a_run_can_learn_from(service, corpus):
    record = written(given(service, price_in=2.0, price_out=10.0, at_a_time=2))
    assert service.most <= 2 and len(service.asked) == 16
    rows = pl.read_parquet(corpus / "queries" / "queries.parquet")
    made = {"keyword": 8, "natural_language": 8, "procedure": 8, "paraphrase": 4}
    assert dict(rows["query_type"].value_counts().iter_rows()) == made
    assert set(rows["writer"]) == {"model"} and set(rows["passage"]) == set(TEXTS)
    assert rows.schema == pl.Schema(study.SCHEMA)
    query, paraphrase = (pl.read_parquet(paths.pairs("mine", kind)) for kind in ("query", "paraphrase"))
    assert query.schema == paraphrase.schema == pl.Schema(pairs.SCHEMA)
    assert dict(zip(paraphrase["anchor"], paraphrase["positive"], strict=True)) == TEXTS
    splits = {"train": 2, "dev": 1, "test": 1}
    assert record["counts"]["pairs"] == {"query": {k: 6 * n for k, n in splits.items()}, "paraphrase": splits}
    assert record["counts"]["tokens"] == {"requests": 16, "prompt_tokens": 1600, "completion_tokens": 160}
    assert record["metrics"] == {"cost": 1600 * 2e-6 + 160 * 1e-5}
    assert record["counts"]["faults"] == record["counts"]["skipped"] == {}
    assert all("written by model" in str(row) for row in tables.written_rows(record) + tables.pair_rows(record))
    mixed = mixture.mix([query.filter(split="train"), paraphrase.filter(split="train")])
    assert mixed["group"].n_unique() == 2, "all pairs of one passage are a group"
    dev = query.filter(split="dev")
    assert len(pools.from_pairs("dev", dev, dev).queries) == 6


def test_a_passage_is_up_to_so_many_neighbours_and_a_draw_takes_the_same_for_each_type(service, corpus):
    frame = pl.read_parquet(corpus / "corpus" / "passages.parquet").with_columns(document=pl.lit("d"))
    made = asking.tasks(frame, given(service, sentences=3, limit=1, kinds=["keyword", "procedure"]))
    assert [task.kind for task in made] == ["keyword", "procedure"] and made[0].text == made[1].text
    every = asking.tasks(frame, given(service, kinds=["keyword"]))
    assert [task.text for task in every] == [" ".join(list(TEXTS)[:3]), list(TEXTS)[3]]
    assert [task.passage_id for task in every] == ["primer:d0:00000+2", "primer:d3:00000"]
    assert [task.text for task in asking.tasks(frame, given(service, kinds=["paraphrase"]))] == list(TEXTS)


def test_the_prompt_holds_the_passage_once_and_asks_for_json(service, corpus):
    written(given(service, kinds=["keyword"], limit=1, most_tokens=99))
    (question,) = service.asked
    assert [m["role"] for m in question["messages"]] == ["system", "user"]
    assert sum(text in question["messages"][1]["content"] for text in TEXTS) == 1
    assert question["response_format"] == {"type": "json_object"} and question["max_tokens"] == 99
    assert service.headers[0]["path"] == "/v1/chat/completions" and question["model"] == "a/model"


@pytest.mark.parametrize(
    ("access", "send_private", "words"),
    [
        ("restricted", False, "primer is restricted: nothing of it is sent to a service; choose writer 'local' or"),
        ("restricted", True, "primer is restricted: nothing of it is sent to a service; choose writer 'local' or"),
        ("private", False, "primer is private: nothing of it is sent to a service; set send_private"),
        ("private", True, None),
    ],
)
def test_texts_that_must_stay_are_refused_before_anything_is_sent(
    service, corpus, monkeypatch, access, send_private, words
):
    source = manifests.load("primer").model_copy(update={"access": access})
    monkeypatch.setattr(manifests, "load", lambda name: source)
    p = given(service, send_private=send_private)
    if words is None:
        assert written(p)["counts"]["pairs"]["query"]["train"] == 12
        return
    with pytest.raises(ValueError, match=words):
        written(p)
    assert service.asked == [] and not (corpus / "queries").exists()
    if access == "private":
        assert written(given(service, dry_run=True))["counts"]["requests"] == 16, "a dry run sends nothing"
    assert written(given())["status"] == "run", "rules send nothing"


def test_a_dry_run_estimates_and_sends_nothing_and_needs_no_key(service, corpus, monkeypatch):
    monkeypatch.delenv("CARDIOEMBED_LLM_KEY")
    p = given(service, dry_run=True, price_in=1.0, price_out=2.0, most_tokens=100)
    planned = study.plan(p)
    asked = [asking.first(task, asking.prompts()) for task in asking.tasks(planned.passages, p)]
    letters = sum(len(message["content"]) for messages in asked for message in messages)
    found = {"passages": 16, "requests": 16, "prompt_tokens": letters // 4, "completion_tokens": 1600}
    assert planned.counts == found
    assert planned.cost == pytest.approx((letters // 4 + 2 * 1600) / 1e6)
    record = study.write(p, planned)
    assert service.asked == [] and not (corpus / "pairs").exists()
    assert record["status"] == "not run" and "nothing was sent" in tables.written_rows(record)[0][""]
    assert tables.plan_rows(planned)[0]["cost, at most"] == planned.cost and tables.pair_rows(record) == []


QUERIES = '{"queries": [{"query": "pulse one", "relevance": 3}, {"query": "pulse two", "relevance": 2}]}'


def of(*queries, relevance=3):
    return json.dumps({"queries": [{"query": query, "relevance": relevance} for query in queries]})


BAD = {
    "no JSON": ("Certainly, here are two queries.", "json_invalid"),
    "JSON that ends early": (QUERIES[:-30], "json_invalid"),
    "an empty reply": ("", "json_invalid"),
    "no content": (None, "json_invalid"),
    "another field": ('{"answers": []}', "missing"),
    "one too few": (of("pulse one"), "wrong_number"),
    "one too many": (of("pulse one", "pulse two", "pulse three"), "wrong_number"),
    "twice the same": (of("pulse one", "Pulse one"), "wrong_number"),
    "a grade that is a text": (of("pulse one", "pulse two", relevance="3"), "int_type"),
    "a grade out of range": (of("pulse one", "pulse two", relevance=4), "less_than_equal"),
    "a question for keywords": (of("what slows it?", "pulse two"), "wrong_form"),
    "too long": (of("one two three four five six seven eight nine", "pulse two"), "wrong_length"),
    "two lines": (of("pulse\none", "pulse two"), "string_pattern_mismatch"),
    "a terminal's command": (of("pulse \x1b[2J one", "pulse two"), "string_pattern_mismatch"),
    "a line's end in Unicode": (of("pulse\u2028one", "pulse two"), "string_pattern_mismatch"),
    "copied": (of("pulse two", "bisoprolol should slow the pulse of most patients"), "copied"),
}


@pytest.mark.parametrize(("text", "kind"), BAD.values(), ids=BAD)
def test_a_reply_that_cannot_be_used_is_asked_for_once_more_with_the_reason(service, corpus, text, kind):
    service.script = [(200, {}, answer(text))]
    p = given(service, kinds=["keyword"], sentences=1, cardiology_only=True, limit=0, at_a_time=1)
    record = written(p)
    assert record["counts"]["faults"] == {kind: 1} and record["counts"]["skipped"] == {}
    assert record["counts"]["written_keyword"] == 6 and len(service.asked) == 4
    first, repeated = service.asked[0]["messages"], service.asked[1]["messages"]
    assert repeated[:2] == first and [m["role"] for m in repeated[2:]] == ["assistant", "user"]
    assert repeated[3]["content"].startswith("That cannot be used: ")
    assert repeated[3]["content"].index(". Answer again") > 30, "the reason stands before"


def test_after_two_bad_replies_the_passage_is_skipped_and_counted(service, corpus):
    service.script = [(200, {}, answer("no")), (200, {}, answer(QUERIES[:40], "length"))]
    record = written(p := given(service, kinds=["keyword"], at_a_time=1))
    assert record["counts"]["faults"] == {"cut_off": 1, "json_invalid": 1}
    assert record["counts"]["skipped"] == {"keyword": 1} and record["counts"]["written_keyword"] == 6
    assert tables.written_rows(record)[0]["passages skipped"] == 1
    assert {"": "replies refused: cut off", "number": 1} in tables.fault_rows(record)
    assert without_versions(written(p)) == without_versions(record)
    assert len(service.asked) == 5, "nor is it paid for again"


SENTENCE = "Without bisoprolol 5 mg the pulse of a patient with heart failure is seldom below 60 on the ECG."
LONG = "Heart failure: without bisoprolol 5 mg, below 60 on the ECG." + " It is so, and that is all I say." * 6
UNLESS = "Unless bisoprolol 5 mg is taken, heart failure rarely goes with an ECG pulse under 60."


@pytest.mark.parametrize(
    ("kind", "text", "fault"),
    [
        ("natural_language", "how low is the pulse", "wrong_form"),
        ("natural_language", "How low is the pulse?", None),
        ("paraphrase", UNLESS, "unfaithful"),
        ("paraphrase", "In heart failure, without bisoprolol 5 g, an ECG seldom shows a rate below 60.", "unfaithful"),
        ("paraphrase", "In heart failure, with bisoprolol 5 mg, an ECG seldom shows a rate below 60.", "unfaithful"),
        ("paraphrase", "In heart failure, without metoprolol 5 mg, an ECG seldom shows a rate below 60.", "lost_name"),
        ("paraphrase", "In weak hearts, without bisoprolol 5 mg, an ECG seldom shows a rate below 60.", "lost_name"),
        (
            "paraphrase",
            "In heart failure, without bisoprolol 5 mg, a tracing seldom shows a rate below 60.",
            "lost_name",
        ),
        ("paraphrase", "In heart failure, without bisoprolol 5 mg, an ECG seldom shows a rate below 60.", None),
        ("paraphrase", SENTENCE, "too_alike"),
        ("paraphrase", LONG, "wrong_length"),
    ],
)
def test_a_question_wants_its_mark_and_a_paraphrase_numbers_negations_and_names(kind, text, fault):
    task = asking.Task(kind, 1, SENTENCE, "a", ("s", "d", "t", "train"), frozenset(["heart failure"]))
    reply = json.dumps({"paraphrase": text}) if kind == "paraphrase" else of(text)
    if fault is None:
        assert asking.read(task, reply) == [(text, 3)]
        return
    with pytest.raises(asking.Fault) as caught:
        asking.read(task, reply)
    assert caught.value.args[0] == fault


def test_a_query_whose_passage_only_names_the_subject_is_written_but_makes_no_pair():
    row = ("q", "keyword", "a text", 1, "a+1", "s", "d", "t", "train", "m")
    frame = pl.DataFrame([row, ("r", *row[1:3], 2, *row[4:])], schema=study.SCHEMA, orient="row")
    made = study.pair(frame)["query"]
    assert made.select("anchor", "positive", "positive_id", "group").rows() == [("r", "a text", "a+1", "a+1")]


@pytest.mark.parametrize(
    ("status", "headers", "body", "waited"),
    [
        (429, {"Retry-After": "7"}, {"error": {"message": "slow down"}}, 7),
        (500, {}, b"<html>oops</html>", None),
        (503, {"Retry-After": "3"}, {}, 3),
        (200, {}, "cut", None),
    ],
)
def test_what_another_try_may_change_is_tried_again_when_the_service_says(
    service, corpus, waits, status, headers, body, waited
):
    service.script = [(status, headers, body)]
    record = written(given(service, kinds=["keyword"]))
    assert record["counts"]["faults"] == {} and record["counts"]["written_keyword"] == 8
    assert len(service.asked) == 5 and len(waits) == 1 and (waited is None or waits == [waited])


NO_ANSWER = {
    "page": b"<html>a log-in page</html>",
    "broken": b'{"choices": [',
    "no choice": {"choices": []},
    "null": {"choices": None},
    "error": {"error": "none"},
    "list": [],
    "the key": answer(f'{{"queries": "{KEY}"}}'),
    "fewer than no tokens": answer(QUERIES) | {"usage": {"prompt_tokens": -5}},
    "more tokens than there are": answer(QUERIES) | {"usage": {"completion_tokens": 10**30}},
    "too long": answer(QUERIES) | {"more": "x" * writers.REPLY_BYTES},
}


@pytest.mark.parametrize("body", NO_ANSWER.values(), ids=NO_ANSWER)
def test_a_body_that_is_no_answer_is_asked_for_again_and_not_kept(service, corpus, body):
    headers = {"Content-Type": "text/html"} if isinstance(body, bytes) else {}
    service.script = [(200, headers, body)] * 2
    p = given(service, kinds=["keyword"], at_a_time=1)
    record = written(p)
    assert record["counts"]["faults"] == {"unusable": 2} and record["counts"]["skipped"] == {"keyword": 1}
    assert written(p)["counts"]["skipped"] == {}, "the next run asks for it"
    assert KEY.encode() not in everything(corpus.parent)


def test_what_a_service_says_of_an_end_or_of_no_tokens_is_not_taken_at_its_word(service, corpus):
    unknown = answer("", f"{KEY} {next(iter(TEXTS))}") | {"usage": {"prompt_tokens": None}}
    service.script = [(200, {}, unknown)]
    record = written(given(service, kinds=["keyword"], at_a_time=1))
    assert record["counts"]["faults"] == {"other": 1}
    assert record["counts"]["tokens"] == {"requests": 5, "prompt_tokens": 400, "completion_tokens": 40}
    assert KEY.encode() not in everything(corpus.parent)


def test_a_reply_of_braces_does_not_hang(no_hang):
    task = asking.Task("keyword", 1, SENTENCE, "a", ("s", "d", "t", "train"), frozenset())
    with pytest.raises(asking.Fault):
        asking.read(task, "{" * 10**6)


def test_a_filter_that_refuses_one_passage_is_counted_and_the_rest_is_written(service, corpus):
    refusal = {"error": {"message": "content filter"}}
    service.script = [(200, {}, None), (400, {}, refusal), (200, {}, answer("", "content_filter"))]
    record = written(given(service, kinds=["keyword"], at_a_time=1))
    assert record["counts"]["faults"] == {"content_filter": 1, "refused": 1}
    assert record["counts"]["skipped"] == {"keyword": 2} and len(service.asked) == 4


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (400, ValueError, "answered 400.*correct `service`, `model`"),
        (401, ValueError, "answered 401.*does not take the key"),
        (404, ValueError, "answered 404.*ends in /v1"),
        (307, ValueError, "answered 307.*redirects are not followed"),
        (429, OSError, "answered 429.*asks for 3600 s of patience; what is done is kept"),
    ],
)
def test_a_service_that_refuses_ends_the_run_and_says_what_to_do(service, corpus, waits, status, kind, words):
    headers = {"Retry-After": "3600"} if status == 429 else {"Location": "/elsewhere"} if status == 307 else {}
    service.script = [(status, headers, {"error": {"message": f"{KEY} {next(iter(TEXTS))}"}})] * 4
    with pytest.raises(kind, match=words) as caught:
        written(given(service, at_a_time=1))
    shown = "".join(traceback.format_exception(caught.value))
    assert KEY not in shown and "septum" not in shown and "it repeats what was sent" in shown
    assert len(service.asked) == 1 and waits == [] and not (corpus / "pairs").exists()


def test_a_silent_service_is_given_up(service, waits, monkeypatch):
    service.script = [(200, {}, "hold")] * 2
    monkeypatch.setattr(remote, "Remote", functools.partial(remote.Remote, tries=2, timeout=0.3))
    with pytest.raises(OSError, match=r"gave no answer \(ReadTimeout, 2 tries\); what is done is kept"):
        writers.service(given(service))([{"role": "user", "content": "Passage: x"}])


def test_a_missing_key_is_named_before_a_bar_is_shown(service, corpus, monkeypatch, capsys):
    monkeypatch.delenv("CARDIOEMBED_LLM_KEY")
    with pytest.raises(ValueError, match=r"CARDIOEMBED_LLM_KEY.* is not set; set it, or leave `service_key` empty"):
        written(given(service))
    assert service.asked == [] and capsys.readouterr().err == ""


def test_a_second_run_asks_nothing_and_needs_no_key(service, corpus, monkeypatch):
    p = given(service)
    record = written(p)
    pairs_then = everything(corpus / "pairs")
    monkeypatch.delenv("CARDIOEMBED_LLM_KEY")
    planned = study.plan(p)
    assert planned.counts["requests"] == 0 and planned.counts["passages"] == 16
    assert without_versions(study.write(p, planned)) == without_versions(record)
    assert len(service.asked) == 16 and everything(corpus / "pairs") == pairs_then


def test_another_prompt_model_address_or_passage_asks_again(service, corpus, monkeypatch, tmp_path):
    written(given(service, kinds=["keyword"]))
    written(given(service, kinds=["keyword"], model="another"))
    assert len(service.asked) == 8
    (tmp_path / "prompts.yaml").write_text(paths.PROMPTS.read_text().replace("Use what it says", "Use all it says"))
    monkeypatch.setattr(paths, "PROMPTS", tmp_path / "prompts.yaml")
    written(given(service, kinds=["keyword"], limit=3))
    assert len(service.asked) == 11


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_stopped(service, corpus):
    service.script = [*[(200, {}, None)] * 5, (200, {}, "hold")]
    words = [sys.executable, "-c", CHILD, service.url]
    process = subprocess.Popen(words, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    assert service.held.acquire(timeout=600)
    process.kill()
    process.wait()
    assert not (corpus / "pairs").exists() and len(service.asked) == 6
    service.go.set()
    planned = study.plan(p := given(service, at_a_time=1))
    assert planned.counts["requests"] == 11
    record = study.write(p, planned)
    assert len(service.asked) == 6 + 11 and record["counts"]["tokens"]["requests"] == 16


def test_an_error_keeps_what_was_answered(service, corpus, waits):
    service.script = [(200, {}, None), (200, {}, None), *[(500, {}, b"")] * 6]
    with pytest.raises(OSError, match="answered 500"):
        written(given(service, at_a_time=1))
    assert study.plan(given(service)).counts["requests"] == 14


def test_the_key_is_nowhere_but_in_the_header(service, corpus, caplog, capfd, monkeypatch):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("OPENAI_ORG_ID", "an-organisation")
    monkeypatch.setenv("OPENAI_API_KEY", "another-key")
    service.script = [(429, {}, {"error": {"message": f"{KEY} is busy"}}), (500, {}, KEY.encode())]
    record = written(given(service))
    assert {headers["authorization"] for headers in service.headers} == {f"Bearer {KEY}"}
    assert "an-organisation" not in str(service.headers) and "another-key" not in str(service.headers)
    shown = caplog.text + "".join(capfd.readouterr()) + json.dumps(record)
    seen = everything(corpus.parent).decode(errors="replace") + shown
    assert KEY not in seen and KEY[3:] not in seen and service.url not in json.dumps(record)


@pytest.mark.parametrize(
    ("key", "address", "words"),
    [
        ("", "https://models.example.org/v1", "the environment variable CARDIOEMBED_LLM_KEY.* is not set"),
        ("two words", "https://models.example.org/v1", "the environment variable CARDIOEMBED_LLM_KEY.* holds a blank"),
        (KEY, "http://models.example.org/v1", "would send the key unencrypted"),
    ],
)
def test_a_missing_or_broken_key_is_named_by_its_variable_and_none_is_sent_unencrypted(
    corpus, monkeypatch, key, address, words
):
    pytest.importorskip("openai", reason="openai is in the test extra")
    monkeypatch.setenv("CARDIOEMBED_LLM_KEY", key)
    with pytest.raises(ValueError, match=words) as caught:
        written(given(SimpleNamespace(url=address)))
    assert key == "" or key not in str(caught.value)


def test_a_random_local_model_writes_nonsense_which_is_counted(corpus, tmp_path):
    folder = tiny.causal(tmp_path / "babbler")
    p = given(writer="local", model=str(folder), most_tokens=16, kinds=["keyword", "paraphrase"], sentences=1)
    record = written(p)
    counts = record["counts"]
    assert counts["skipped"] == {"keyword": 4, "paraphrase": 4} and counts["tokens"]["requests"] == 16
    assert sum(counts["faults"].values()) == 16 and counts["written_keyword"] == counts["written_paraphrase"] == 0
    assert len(pl.read_parquet(corpus / "pairs" / "query.parquet")) == 0
    assert record["params"]["written_by"] == record["params"]["model"] == "babbler" and record["metrics"] == {}
    assert str(tmp_path) not in json.dumps(record)
    assert without_versions(written(p)) == without_versions(record)


def test_rules_take_terms_titles_and_questions_of_the_primer(monkeypatch, tmp_path):
    source = manifests.load("primer")
    made, _ = passages.prepare(source, manifests.fetch(source))
    made = passages.split(made, seed=17)
    rows, texts = list(rules.write(made)), set(made["text"])
    assert {row[1] for row in rows} == {"keyword", "natural_language", "procedure", "paraphrase"}
    assert all(row[2] in texts and row[3] in (2, 3) and row[-1] == "rule" for row in rows)
    questions = pairs.make(made, "question")
    asked = {(row[0], row[2]) for row in rows if row[1] == "natural_language"}
    assert set(questions.select("anchor", "positive").rows()) <= asked
    terms = {row[0] for row in rows if row[1] == "keyword" and row[0].casefold() in row[2].casefold()}
    assert "endothelium" in terms
    assert ("Bypass surgery: how is it done?", "procedure") in {row[:2] for row in rows}
    assert sum(row[1] == "paraphrase" for row in rows) == 14


def test_the_default_needs_no_model_and_says_written_by_rule(corpus):
    record = written(p := given())
    assert study.plan(p).writer == "rule" and record["metrics"] == {} and "tokens" not in record["counts"]
    assert {row[""] for row in tables.written_rows(record)} == {"written by rule"}
    assert tables.plan_rows(study.plan(p)) == [{"": "written by rule", "requests": 0}]
    assert tables.fault_rows(record) == []
    assert records.read(records.path("mine", "queries", "all")) == record


@pytest.mark.slow
def test_rules_are_written_without_loading_torch_or_openai():
    code = (
        "import sys; from cardioembed_study.queries import study, tables; print({'torch', 'openai'} & set(sys.modules))"
    )
    there = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.check_output([sys.executable, "-c", code], env=there, text=True) == "set()\n"


def test_prompts_that_lack_one_or_the_passage_are_refused(tmp_path, monkeypatch):
    text = paths.PROMPTS.read_text()
    monkeypatch.setattr(paths, "PROMPTS", tmp_path / "prompts.yaml")
    for changed, words in (
        (text.replace("keyword: |", "keywords: |"), r"has the prompts \['keywords', .*wanted \['keyword', "),
        (text + "more: |\n  {passage}\n", "'more', .*, wanted "),
        (text.replace("Sentence: {passage}", "Sentence"), "'paraphrase' wants a text with one {passage}"),
    ):
        paths.PROMPTS.write_text(changed)
        with pytest.raises(ValueError, match=words):
            asking.prompts()


def test_pairs_that_were_not_written_name_the_notebook_that_writes_them(corpus):
    with pytest.raises(FileNotFoundError, match=r"pairs/query.parquet is missing; run notebooks/01_queries.ipynb"):
        paths.need(paths.pairs("mine", "query"), "01_corpus")


def test_a_profile_runs_the_notebook_only_where_a_run_learns_from_its_pairs(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "PROFILES", tmp_path)

    def profile(**given):
        (tmp_path / "mine.yaml").write_text(json.dumps(given))
        return settings.profile("mine")

    plain, asking_run = profile(), profile(**{"02_train": {"a": {"pairs": ["query"]}}})
    assert "queries.all.json" in publish._published(asking_run)
    assert "queries.all.json" not in publish._published(plain)
    assert not any("01_queries" in stem for made in (plain, asking_run) for stem in publish.notebooks(made))
    with pytest.raises(ValueError, match="run 'a' learns from 'query', which 01_queries does not write; see its `k"):
        profile(**{"01_queries": {"kinds": ["paraphrase"]}, "02_train": {"a": {"pairs": ["query"]}}})
