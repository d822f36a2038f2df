from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.annotators.annotator_file import AnnotatorFile
from alm_proxies.stages.annotate.askable import in_fair_order, shard_of
from alm_proxies.stages.annotate.egress import leaves_this_machine
from alm_proxies.stages.annotate.human_votes import HumanVotes, human_votes_in
from alm_proxies.stages.annotate.limits import Tally
from alm_proxies.stages.annotate.settings import Stop
from alm_proxies.tables import Votes

Make = Callable[..., Any]


def annotator_with(**values: Any) -> Annotator:
    file = {"name": "a", "engine": "openai", "model": "m", **values}
    return Annotator.of(AnnotatorFile.model_validate(file)).ready(("angry", "happy", "sad"))


def test_an_annotator_is_judged_only_after_enough_votes() -> None:
    tally = Tally("a")
    for _ in range(9):
        tally.count("failed")
    assert tally.verdict(Stop(after=10), {}) is None
    tally.count("ok", [("sad", 1.0)])
    assert tally.verdict(Stop(after=10), {}) == "90% of the votes of a failed (stop.failed = 0.1)"


def test_collapse_is_judged_against_what_humans_say() -> None:
    tally = Tally("a")
    for _ in range(99):
        tally.count("ok", [("neutral", 1.0)])
    tally.count("ok", [("neutral", 0.5), ("sad", 0.5)])
    stop = Stop(after=100)
    assert tally.verdict(stop, {}) is not None
    assert tally.verdict(stop, {"neutral": 0.5, "sad": 0.5}) is not None
    assert tally.verdict(stop, {"neutral": 0.97, "sad": 0.03}) is None
    assert tally.verdict(Stop(after=100, collapse=1.0), {}) is None


def test_held_out_human_votes_are_not_looked_at() -> None:
    frame = pl.DataFrame(
        {
            "utterance_id": ["1", "2", "3"],
            "annotator": "h",
            "label": ["sad", "sad", "happy"],
            "held_out": [False, False, True],
        }
    )
    assert HumanVotes.of_parts([Votes.of(frame, taxonomy=["sad", "happy"])]).shares == {"sad": 1.0}


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_big_files_of_human_votes_are_read_in_parts_with_the_same_result(tmp_path: Path, ending: str) -> None:
    rows = [(f"c/{i % 37:02d}", f"r{i // 37}", "happy" if (i * i) % 7 < 3 else "sad", i % 5 == 0) for i in range(370)]
    frame = pl.DataFrame(rows, schema=["utterance_id", "annotator", "label", "held_out"], orient="row")
    kinds = {"csv": frame.write_csv, "jsonl": frame.write_ndjson, "parquet": frame.write_parquet}
    kinds[ending](tmp_path / f"votes.{ending}")
    files = [tmp_path / f"votes.{ending}"]
    whole = human_votes_in(files, "happy,sad", tmp_path)
    parts = human_votes_in(files, "happy,sad", tmp_path, quiet=True, part_rows=50, whole_rows=0)
    votes = Votes.read(files[0], taxonomy="happy,sad")
    assert whole.digest == parts.digest == votes.content_digest()
    assert parts.shares == pytest.approx(whole.shares)
    assert parts.taxonomy == whole.taxonomy == ("happy", "sad")
    assert parts.labels.equals(whole.labels)
    assert parts.labels["utterance_id"].to_list() == [f"c/{i:02d}" for i in range(37)]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"votes.{ending}"]


@pytest.mark.parametrize(
    ("urls", "leaves"),
    [
        (["http://127.0.0.1:8000/v1"], False),
        (["http://localhost:8000/v1", "http://[::1]:1/v1"], False),
        (["http://127.0.0.1:8000/v1", "https://api.openai.com/v1"], True),
        (["http://127.0.0.1.example.org/v1"], True),
        (["http://10.0.0.1/v1"], True),
        (["http://0.0.0.0:8000/v1"], True),
    ],
)
def test_only_loopback_addresses_stay_on_this_machine(urls: list[str], leaves: bool) -> None:
    assert leaves_this_machine(annotator_with(serve={"base_urls": urls})) is leaves


def test_engines_in_process_stay_on_this_machine() -> None:
    assert not leaves_this_machine(annotator_with(engine="transformers"))
    assert not leaves_this_machine(annotator_with(engine="vllm"))


@settings(deadline=None)
@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=60), st.integers(0, 5))
def test_every_beginning_of_the_asking_order_is_a_fair_sample(corpora: list[str], seed: int) -> None:
    frame = pl.DataFrame({"utterance_id": [f"{n}" for n in range(len(corpora))], "corpus": corpora})
    ordered = in_fair_order(frame, seed, ["corpus"])
    assert sorted(ordered["utterance_id"]) == sorted(frame["utterance_id"])
    for count in range(1, len(corpora) + 1):
        for corpus in set(corpora):
            fair = count * corpora.count(corpus) / len(corpora)
            assert abs((ordered["corpus"][:count] == corpus).sum() - fair) <= len(set(corpora))
    assert in_fair_order(frame.reverse(), seed, ["corpus"]).equals(ordered)


def test_a_shard_is_read_from_its_text() -> None:
    assert shard_of("2/8") == (2, 8)
