import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from alm_proxies import cache
from alm_proxies.annotators.annotator import Annotator
from alm_proxies.errors import EngineError
from alm_proxies.stages.annotate.stage import AnnotateSettings, annotate

Make = Callable[..., Any]
FAULTY = """
elicits = "label"
requires = ["speaker", "transcript"]
after = '{"key": "{{ speaker }} {{ transcript }}", "do": [{{ FAULT }}], "labels": "{{ labels | join(" ") }}"}'
"""
LASTING = {
    "ok": ("ok", ""),
    "500": ("failed", "server_error"),
    "reset": ("failed", "reset"),
    "cut": ("failed", "cut_body"),
    "garbage": ("failed", "cut_body"),
    "empty": ("failed", "empty"),
    "400": ("failed", "bad_request"),
    "too long": ("failed", "too_long"),
    "bad audio": ("failed", "corrupt_audio"),
    "refusal": ("refused", "refused"),
    "filter": ("refused", "refused"),
}
# Three tries of a recording of 0.2 s each, one where asking again cannot fix it; what is turned away costs nothing.
PAID_TRIES = dict.fromkeys(("500", "reset", "cut", "garbage", "empty"), 3) | {
    "ok": 1,
    "refusal": 1,
    "filter": 1,
    "400": 0,
    "too long": 0,
    "bad audio": 0,
}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    program = Path(__file__).parents[2] / "engines/fault_server.py"
    with subprocess.Popen(
        [sys.executable, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        process.stdin.close()


def served(folder: Path, url: str, do: str, model: str = "full", votes: int = 3) -> Annotator:
    (folder / "faulty.toml").write_text(FAULTY.replace("{{ FAULT }}", do))
    (folder / "a.toml").write_text(
        f'name = "a"\nengine = "openai"\nmodel = "{model}"\nprompt = "faulty.toml"\nvotes = {votes}\nconstrain = true\n'
        f'serve = {{ base_urls = ["{url}"], tries = 3, try_seconds = 10.0 }}\nprice = {{ audio_minute = 60.0 }}\n'
    )
    return Annotator.read(folder / "a.toml")


def test_every_planned_draw_ends_with_the_right_status_whatever_the_server_does(
    server: str, corpus: Make, tmp_path: Path
) -> None:
    faults = list(LASTING)
    utterances = corpus(len(faults), speaker=faults)
    remote = served(tmp_path, server, '"{{ speaker }}"')
    lenient = AnnotateSettings.model_validate({"stop": {"failed": 1.0, "refused": 1.0}, "injection": 0})
    annotated = annotate(utterances, [remote], tmp_path / "out", lenient)
    assert annotated.complete
    by_fault = annotated.votes.frame.join(utterances.frame.select("utterance_id", "speaker"), on="utterance_id")
    for fault, (status, _) in LASTING.items():
        assert by_fault.filter(pl.col("speaker") == fault)["status"].to_list() == [status] * 3
    kinds = {(row["kind"], row["where"]) for row in annotated.findings.frame.iter_rows(named=True)}
    assert {(status, kind) for status, kind in LASTING.values() if kind} <= kinds
    tried = sum(PAID_TRIES.values())
    assert annotated.spent.price - annotated.spent.tried_out_price == pytest.approx(
        tried * 0.2
    )  # a second of the 0.2 s costs 1
    with closing(sqlite3.connect(tmp_path / "out/ledger.sqlite")) as sql:
        named = dict(zip(utterances.frame["utterance_id"], faults, strict=True))
        query = "SELECT u.name, v.tries, SUM(v.price) FROM vote v JOIN utterance u ON u.id = v.utterance GROUP BY 1"
        paid = {named[name]: (tries, price) for name, tries, price in sql.execute(query)}
    assert {fault: tries for fault, (tries, _) in paid.items()} == {
        fault: 3 if fault in ("500", "reset", "cut", "garbage", "empty") else 1 for fault in faults
    }
    assert {fault: round(price / 0.2) for fault, (_, price) in paid.items()} == PAID_TRIES


def test_failed_tries_before_an_answer_are_paid_too_but_not_those_turned_away(
    server: str, corpus: Make, tmp_path: Path
) -> None:
    faults = ["500", "reset", "cut", "garbage", "empty", "429"]
    utterances = corpus(len(faults), speaker=faults, transcript=[f"paid {fault}" for fault in faults])
    remote = served(tmp_path, server, '"{{ speaker }}", "ok"')
    annotated = annotate(utterances, [remote], tmp_path / "out", AnnotateSettings())
    assert annotated.spent.price - annotated.spent.tried_out_price == pytest.approx((5 * 2 + 1) * 0.2)


def test_draws_sent_one_by_one_end_each_with_its_own_status(server: str, corpus: Make, tmp_path: Path) -> None:
    utterances = corpus(2, speaker=["refusal", "400"], transcript=["partly refused", "partly wrong"])
    remote = served(tmp_path, server, '"{{ speaker }}", "ok"', model="single")
    lenient = AnnotateSettings.model_validate({"stop": {"failed": 1.0, "refused": 1.0}})
    frame = annotate(utterances, [remote], tmp_path / "out", lenient).votes.frame
    statuses = frame.group_by("utterance_id").agg(pl.col("status").sort()).sort("utterance_id")["status"].to_list()
    assert statuses == [["ok", "ok", "refused"], ["failed", "ok", "ok"]]


def test_the_budget_holds_where_a_recording_is_sent_once_for_every_label_order(
    server: str, corpus: Make, tmp_path: Path
) -> None:
    remote = served(tmp_path, server, '"ok"', votes=4)
    scores = remote.file.model_copy(update={"elicit": "score", "constrain": False})
    scores = type(scores).model_validate({**scores.model_dump(), "cross": {"label_orders": 4}})
    utterances = corpus(10)
    settings = AnnotateSettings(budget=10.0, injection=0)
    annotated = annotate(utterances, [Annotator.of(scores, where=remote.where)], tmp_path / "out", settings)
    assert annotated.stopped is not None
    assert 0.8 <= annotated.spent.price - annotated.spent.tried_out_price <= 4.5
    assert annotated.spent.price <= 10.0
    assert annotated.spent.expected == pytest.approx(10 * 4 * 0.2)


def test_finding_out_what_a_server_can_do_is_on_the_bill_and_done_again_only_where_something_is_asked(
    server: str, corpus: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    utterances = corpus(2, transcript=["tried out", "tried out too"])
    remote = served(tmp_path, server, '"ok"')
    annotated = annotate(utterances, [remote], tmp_path / "out", AnnotateSettings(injection=0))
    assert "a: about a dozen small requests first, to probe the server" in capsys.readouterr().err
    assert (annotated.spent.tried_out, annotated.spent.tried_out_price) == (11, pytest.approx(5.5))
    assert annotated.spent.price == pytest.approx(5.5 + 2 * 0.2)
    again = annotate(utterances, [remote], tmp_path / "out", AnnotateSettings(injection=0))
    assert again.spent.price_now == 0.0
    more = annotate(utterances, [remote], tmp_path / "out", AnnotateSettings(injection=0, votes=4))
    assert more.spent.tried_out == 11  # what was found out is kept for a day
    assert more.spent.price_now == pytest.approx(2 * 0.2)
    assert "about a dozen small requests" not in capsys.readouterr().err
    cache.clear("abilities")
    broke = annotate(utterances, [remote], tmp_path / "out", AnnotateSettings(injection=0, votes=5, budget=7.0))
    assert broke.stopped is not None
    assert broke.stopped.startswith("probing the server could exceed the budget of 7: 6.80 are spent")
    assert 0.0 < broke.spent.price_now <= 0.7 + 1e-9
    assert broke.spent.tried_out > 11  # those that were asked before it was reached are on the bill
    with closing(sqlite3.connect(tmp_path / "out/ledger.sqlite")) as ledger:
        states = ledger.execute("SELECT DISTINCT state FROM trial").fetchall()
    assert states == [("answered",)]


def test_one_draw_that_ends_the_job_ends_it(server: str, corpus: Make, tmp_path: Path) -> None:
    remote = served(tmp_path, server, '"ok", "401"', model="single")
    with pytest.raises(EngineError, match="unauthorised: .* Correct the annotator file, the key or the account"):
        annotate(corpus(1, transcript=["one draw ends it"]), [remote], tmp_path / "out", AnnotateSettings())


def test_recordings_that_a_server_forbids_fail_alone_and_are_listed(server: str, corpus: Make, tmp_path: Path) -> None:
    acts = ["403", "ok", "403", *["ok"] * 8]
    utterances = corpus(len(acts), speaker=acts, transcript=[f"forbidden alone {place}" for place in range(len(acts))])
    lenient = AnnotateSettings.model_validate({"stop": {"failed": 1.0}, "injection": 0})
    annotated = annotate(utterances, [served(tmp_path, server, '"{{ speaker }}"')], tmp_path / "out", lenient)
    assert annotated.complete
    assert annotated.by_status == {"ok": 27, "failed": 6}
    (listed,) = annotated.findings.frame.filter(pl.col("where") == "forbidden").iter_rows(named=True)
    assert (listed["kind"], listed["count"], bool(listed["fix"])) == ("failed", 6, True)
    assert "HTTP 403: as told" in listed["message"]
    assert annotated.spent.price - annotated.spent.tried_out_price == pytest.approx(9 * 0.2)


def test_a_key_that_is_forbidden_everything_ends_the_run(server: str, corpus: Make, tmp_path: Path) -> None:
    utterances = corpus(40, transcript=[f"forbidden key {place}" for place in range(40)])
    remote = served(tmp_path, server, '"403"', votes=1)
    lenient = AnnotateSettings.model_validate({"stop": {"failed": 1.0}, "injection": 0})
    with pytest.raises(EngineError, match=r"unauthorised: requests about 8 utterances .*HTTP 403: as told"):
        annotate(utterances, [remote], tmp_path / "out", lenient)


def test_faults_that_pass_cost_tries_and_no_votes(server: str, corpus: Make, tmp_path: Path) -> None:
    faults = ["500", "reset", "cut", "garbage", "empty", "429"]
    utterances = corpus(len(faults), speaker=faults, transcript=[f"passing {fault}" for fault in faults])
    annotated = annotate(
        utterances, [served(tmp_path, server, '"{{ speaker }}", "ok"')], tmp_path / "out", AnnotateSettings()
    )
    assert set(annotated.votes.frame["status"]) == {"ok"}
    assert set(annotated.votes.frame["label"]) == {"angry"}


def test_a_refused_key_ends_the_job_and_is_told_without_the_key(
    server: str, corpus: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WRONG_KEY", "sk-very-secret")
    remote = served(tmp_path, server, '"ok"', model="keyed")
    remote = Annotator.of(
        remote.file.model_copy(update={"serve": {**remote.file.serve, "key_from": "WRONG_KEY"}}), where=remote.where
    )
    with pytest.raises(EngineError) as caught:
        annotate(corpus(2), [remote], tmp_path / "out", AnnotateSettings())
    assert "sk-very-secret" not in str(caught.value)
    assert b"sk-very-secret" not in b"".join(path.read_bytes() for path in (tmp_path / "out").glob("*"))


def test_a_real_model_is_sampled_and_scored_alike_again_and_hears_the_recording(corpus: Make, tmp_path: Path) -> None:
    from alm_proxies.models.tiny import build

    checkpoint = build(tmp_path / "model", words=["Reply with one letter and nothing else."])
    utterances = corpus(2)
    values = f'engine = "transformers"\nmodel = "{checkpoint}"\nserve = {{ device = "cpu" }}\n'
    (tmp_path / "score.toml").write_text(f'name = "score"\nelicit = "score"\ncross = {{ label_orders = 2 }}\n{values}')
    sampling = "sampling = { max_tokens = 3 }\nvotes = 3\nconstrain = true\n"
    (tmp_path / "sample.toml").write_text(f'name = "sample"\n{sampling}{values}')
    panel = [Annotator.read(tmp_path / "score.toml"), Annotator.read(tmp_path / "sample.toml")]
    first = annotate(utterances, panel, tmp_path / "first", AnnotateSettings(seed=1))
    annotate(utterances, panel, tmp_path / "second", AnnotateSettings(seed=1))
    assert first.complete
    assert "not_seeded" not in first.findings.counts()
    same = (tmp_path / "first/votes.parquet").read_bytes() == (tmp_path / "second/votes.parquet").read_bytes()
    assert same
    ok = first.votes.frame.filter(pl.col("status") == "ok")
    assert ok.filter(pl.col("annotator") == "score").height == 2 * 2 * 4
    assert ok.filter(pl.col("annotator") == "sample").height == 6
    scores = ok.filter(pl.col("annotator") == "score").group_by("utterance_id").agg(
        pl.col("weight").sort_by("draw", "label")
    ).sort("utterance_id")["weight"].to_list()  # fmt: skip
    assert np.abs(np.subtract(scores[0], scores[1])).max() > 1e-6
