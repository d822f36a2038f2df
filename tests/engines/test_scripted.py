from __future__ import annotations

import asyncio
import json
import math
from collections import Counter
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats import chisquare

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.annotators.annotator_file import AnnotatorFile
from alm_proxies.audio.clip import Clip
from alm_proxies.engines.engine import Question, Request, Sampling, Trouble, Turn
from alm_proxies.engines.registry import ScriptedServe, open_engine, serve_settings
from alm_proxies.engines.scripted import Scripted
from alm_proxies.errors import InputError, SettingsError

CODES = ("A", "B", "C")


def request(clip, utterance="u1", elicit="sample", seeds=(1, 2, 3), key="k", **more):
    question = Question((Turn("user", (clip, "Which?")),), CODES)
    return Request(key, utterance, elicit, (question,), () if elicit == "score" else seeds, **more)


def ask(engine, *requests):
    async def asked():
        return [await engine.ask(question) for question in requests]

    return asyncio.run(asked())


@pytest.fixture
def shares_table(tmp_path):
    path = tmp_path / "shares.parquet"
    pl.DataFrame(
        {"utterance_id": ["u1", "u2"], "p_angry": [0.5, 0.0], "p_happy": [0.3, 0.0], "p_sad": [0.2, 1.0]}
    ).write_parquet(path)
    return str(path)


def opened(path, **serve):
    return asyncio.run(open_engine("told", ScriptedServe(answers=path, **serve)))


def test_draws_from_shares_follow_them_and_their_seeds(clip, shares_table):
    engine = opened(shares_table)
    reply, again = ask(engine, request(clip, seeds=tuple(range(2000))), request(clip, seeds=(17,), key="other"))
    counts = Counter(reply.texts)
    assert chisquare([counts[code] for code in CODES], [1000, 600, 400]).pvalue > 1e-3
    assert again.texts == (reply.texts[17],)
    assert reply.seeds_honoured


def test_scores_are_the_logarithms_of_shares(clip, shares_table):
    first, other = ask(opened(shares_table), request(clip, elicit="score"), request(clip, "u2", elicit="score"))
    assert first.log_probabilities == ((math.log(0.5), math.log(0.3), math.log(0.2)),)
    assert other.log_probabilities == ((-math.inf, -math.inf, 0.0),)


@pytest.mark.parametrize("answer", ["codes", "words"])
@pytest.mark.parametrize("elicit", ["sample", "score"])
def test_columns_of_shares_belong_to_their_labels_in_any_order(shares_table, elicit, answer):
    shares = pl.read_parquet(shares_table).with_columns(utterance_id=pl.Series(["clip 0", "clip 1"]))
    shares.select("utterance_id", "p_sad", "p_happy", "p_angry").write_parquet(shares_table)
    file = AnnotatorFile(
        name="told",
        engine="scripted",
        model="m",
        elicit=elicit,
        answer=answer,
        votes=1 if elicit == "score" else 400,
        serve={"answers": shares_table},
    )
    heard = Annotator.of(file, taxonomy=["angry", "happy", "sad"]).distribution(
        [Clip(np.ones(1600, np.float32), 16000)]
    )
    assert heard[0] == pytest.approx([0.5, 0.3, 0.2], abs=0.08 if elicit == "sample" else 1e-9)


@pytest.mark.parametrize("labels", [("angry", "happy"), ("angry", "happy", "sad", "fear")])
def test_a_table_of_shares_over_other_labels_is_refused(clip, shares_table, labels, wording):
    question = Question((Turn("user", (clip, "Which?")),), ("A", "B", "C", "D")[: len(labels)], labels)
    with wording.refused(InputError):
        ask(opened(shares_table), Request("k", "u1", "score", (question,)))


def test_a_stated_distribution_is_json(clip, shares_table):
    (reply,) = ask(opened(shares_table), request(clip, elicit="state", seeds=(1,)))
    assert json.loads(reply.texts[0]) == {"angry": 0.5, "happy": 0.3, "sad": 0.2}


def test_no_temperature_answers_the_likeliest(clip, shares_table):
    (reply,) = ask(opened(shares_table), request(clip, sampling=Sampling(temperature=0.0)))
    assert reply.texts == ("A", "A", "A")


def test_texts_from_a_table_come_back_as_they_are(clip, tmp_path):
    path = tmp_path / "texts.csv"
    path.write_text("utterance_id,text\nu1,Angry!\nu1,not sure\nu2,sad\n")
    first, other = ask(opened(str(path)), request(clip, seeds=tuple(range(40))), request(clip, "u2"))
    assert set(first.texts) == {"Angry!", "not sure"}
    assert set(other.texts) == {"sad"}


def test_a_table_with_signs_in_its_name_and_below_the_home_folder_is_found(clip, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    pl.DataFrame({"utterance_id": ["u1"], "text": ["right"]}).write_parquet(tmp_path / "answers[1]*.parquet")
    pl.DataFrame({"utterance_id": ["u1"], "text": ["wrong"]}).write_parquet(tmp_path / "answers1.parquet")
    (reply,) = ask(opened("~/answers[1]*.parquet"), request(clip, seeds=(1,)))
    assert reply.texts == ("right",)


def test_numbers_in_a_csv_stay_text(clip, tmp_path):
    (tmp_path / "texts.csv").write_text("utterance_id,text\n007,1.50\n")
    (reply,) = ask(opened(str(tmp_path / "texts.csv")), request(clip, "007", seeds=(1,)))
    assert reply.texts == ("1.50",)


def test_what_is_turned_away_costs_nothing_and_what_died_does(clip):
    cases: tuple[tuple[Trouble, int], ...] = (("rate_limited", 0), ("unauthorised", 0), ("timeout", 1), ("refused", 1))
    for kind, paid in cases:
        (reply,) = ask(Scripted(script=lambda request, seed: "A", faults={kind: 1.0}), request(clip))
        assert reply.paid_tries == reply.counted == paid
        assert (reply.audio_seconds > 0, reply.tokens_in > 0) == (bool(paid), bool(paid))


def test_faults_have_the_share_asked_for_and_asking_again_may_go_well(clip):
    engine = Scripted(script=lambda request, seed: "A", faults={"server_error": 0.3, "refused": 0.2})
    requests = [request(clip, key=str(number)) for number in range(1000)]
    first, second = ask(engine, *requests), ask(engine, *requests)
    kinds = Counter(reply.failure.kind if reply.failure else "ok" for reply in first)
    assert chisquare([kinds["server_error"], kinds["refused"], kinds["ok"]], [300, 200, 500]).pvalue > 1e-3
    assert any(before.failure and not other.failure for before, other in zip(first, second, strict=True))
    assert [
        reply.failure
        for reply in ask(
            Scripted(script=lambda request, seed: "A", faults={"server_error": 0.3, "refused": 0.2}), *requests
        )
    ] == [reply.failure for reply in first]


def test_wrong_tables_and_settings_are_refused(tmp_path, clip, shares_table, wording):
    with wording.refused(InputError):
        opened(str(tmp_path / "none.parquet"))
    (tmp_path / "bad.csv").write_text("id,answer\n1,A\n")
    with wording.refused(InputError):
        opened(str(tmp_path / "bad.csv"))
    (tmp_path / "hole.csv").write_text("utterance_id,text\nu1,A\nu2,\n")
    with wording.refused(InputError):
        opened(str(tmp_path / "hole.csv"))
    with wording.refused(SettingsError):
        opened("")
    with wording.refused(InputError):
        ask(opened(shares_table), request(clip, "u9"))
    with wording.refused(SettingsError):
        serve_settings("scripted", {"fault": {}})
    with wording.refused(SettingsError):
        serve_settings("oracle", {})


def test_a_function_that_answers_no_text_or_no_shares_is_a_failure_with_its_utterance(clip):
    nothing: Any = lambda request, seed: None  # noqa: E731
    row: Any = lambda request: [0.5, 0.5]  # noqa: E731
    (reply,) = ask(Scripted(script=nothing), request(clip))
    assert reply.failure is not None
    assert reply.failure.kind == "code_error"
    assert "script answered None for 'u1', not text" in reply.failure.message
    (reply,) = ask(Scripted(shares=row), request(clip, elicit="score"))
    assert reply.failure is not None
    assert "shares answered [0.5, 0.5] for 'u1', not the share of every label" in reply.failure.message
