import asyncio
import json
import signal
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import soundfile
from listening import draws, listening

from alm_proxies.engines.engine import Request
from alm_proxies.errors import SettingsError
from alm_proxies.stages.annotate.stage import AnnotateSettings, annotate
from alm_proxies.tables import Utterances, Votes

Make = Callable[..., Any]
CROSS = {"temperature": [0.6, 1.0], "focus": ["voice", "words"], "label_orders": 2}


def test_every_planned_vote_is_cast_and_the_table_is_the_same_however_it_came_about(
    corpus: Make, annotator: Make, tmp_path: Path
) -> None:
    utterances = corpus(6)
    scripted = annotator(utterances, votes=8, cross=CROSS)
    straight = annotate(utterances, [scripted], tmp_path / "straight", AnnotateSettings(seed=7))
    assert straight.complete
    assert len(straight.votes) == 48
    assert straight.votes.about.annotators["scripted"].cross == CROSS
    annotate(utterances, [scripted], tmp_path / "grown", AnnotateSettings(seed=7, votes=3))
    annotate(utterances, [scripted], tmp_path / "grown", AnnotateSettings(seed=7, limit=2))
    annotate(utterances, [scripted], tmp_path / "grown", AnnotateSettings(seed=7))
    same = (tmp_path / "grown/votes.parquet").read_bytes() == (tmp_path / "straight/votes.parquet").read_bytes()
    assert same
    assert Votes.read(tmp_path / "straight/votes.parquet").frame.equals(
        straight.votes.frame.sort(Votes.KEY, maintain_order=True)
    )


def test_more_votes_and_another_annotator_pay_only_the_rest(corpus: Make, annotator: Make, tmp_path: Path) -> None:
    utterances = corpus(5)
    first_annotator, second_annotator = annotator(utterances, "one", cross=CROSS), annotator(utterances, "two", votes=2)
    asked: list[Request] = []
    first = annotate(utterances, [first_annotator], tmp_path, AnnotateSettings(votes=8), engine_of=listening(asked))
    assert draws(asked) == 40
    asked.clear()
    second = annotate(utterances, [first_annotator], tmp_path, AnnotateSettings(votes=16), engine_of=listening(asked))
    assert draws(asked) == 40
    key = ["utterance_id", "annotator", "draw"]
    kept = second.votes.frame.join(first.votes.frame.select(key), on=key, how="semi")
    assert kept.sort(key).equals(first.votes.frame.sort(key))
    asked.clear()
    both = annotate(
        utterances,
        [first_annotator, second_annotator],
        tmp_path,
        AnnotateSettings(votes=16),
        engine_of=listening(asked),
    )
    assert draws(asked) == 80
    assert {request.key.split("|")[0] for request in asked} == {"two"}
    assert len(both.votes) == 160
    asked.clear()
    annotate(
        utterances,
        [first_annotator, second_annotator],
        tmp_path,
        AnnotateSettings(votes=16),
        engine_of=listening(asked),
    )
    assert asked == []


def test_the_votes_name_the_utterances_they_are_about_by_content(corpus: Make, annotator: Make, tmp_path: Path) -> None:
    utterances = corpus(3)
    made_by = annotate(utterances, [annotator(utterances, votes=2)], tmp_path, AnnotateSettings()).votes.about.made_by
    assert made_by is not None
    assert made_by.inputs == {"utterances": utterances.content_digest()}


def test_draws_of_a_cell_share_a_request_and_requests_of_an_utterance_its_recording(
    corpus: Make, annotator: Make, tmp_path: Path
) -> None:
    utterances = corpus(3)
    scripted = annotator(utterances, cross=CROSS)
    asked: list[Request] = []
    annotate(utterances, [scripted], tmp_path, AnnotateSettings(votes=24), engine_of=listening(asked))
    assert len(asked) == 3 * 8
    assert all(len(request.seeds) == 3 for request in asked)
    assert Counter(request.utterance_id for request in asked) == {f"sim/0000{n}": 8 for n in range(3)}
    assert len({id(request.audio[0]) for request in asked}) == 3


def test_changed_audio_prompt_or_model_makes_new_votes_and_keeps_the_old_apart(
    corpus: Make, annotator: Make, tmp_path: Path
) -> None:
    utterances = corpus(4)
    scripted = annotator(utterances, votes=4)
    out = tmp_path / "out"
    annotate(utterances, [scripted], out, AnnotateSettings())
    tone = 0.3 * np.sin(2 * np.pi * 999 * np.arange(4000) / 16_000)
    soundfile.write(tmp_path / "audio/sim/00002.wav", tone, 16_000)
    asked: list[Request] = []
    again = annotate(utterances, [scripted], out, AnnotateSettings(), engine_of=listening(asked))
    assert {request.utterance_id for request in asked} == {"sim/00002"}
    assert again.findings.counts()["changed"] == 4
    with closing(sqlite3.connect(out / "ledger.sqlite")) as ledger:
        assert ledger.execute("SELECT COUNT(*), MIN(why) FROM set_aside").fetchone() == (
            4,
            "its recording or text has changed",
        )
    asked.clear()
    other = annotator(utterances, votes=4, prompt="primary_secondary")
    other = annotate(utterances, [other], out, AnnotateSettings(), engine_of=listening(asked))
    assert draws(asked) == 16
    assert other.findings.counts()["annotator_changed"] == 16
    asked.clear()
    annotate(utterances, [scripted], out, AnnotateSettings(), engine_of=listening(asked))
    assert asked == []
    annotate(utterances, [scripted], out, AnnotateSettings(seed=8), engine_of=listening(asked))
    assert draws(asked) == 16


def test_a_changed_transcript_matters_to_prompts_that_tell_it(corpus: Make, annotator: Make, tmp_path: Path) -> None:
    utterances = corpus(4)
    panel = [annotator(utterances, "hears", votes=2), annotator(utterances, "reads", votes=2, prompt="reference")]
    annotate(utterances, panel, tmp_path / "out", AnnotateSettings())
    changed = utterances.frame.with_columns(
        transcript=pl.when(pl.col("utterance_id") == "sim/00001").then(pl.lit("No!")).otherwise("transcript")
    )
    asked: list[Request] = []
    after = Utterances.of(changed, about=utterances.about)
    annotate(after, panel, tmp_path / "out", AnnotateSettings(), engine_of=listening(asked))
    assert {(request.key.split("|")[0], request.utterance_id) for request in asked} == {("reads", "sim/00001")}


def test_failed_votes_are_asked_again_and_what_they_cost_stays_on_the_bill(
    corpus: Make, annotator: Make, tmp_path: Path
) -> None:
    utterances = corpus(30)
    price = {"audio_minute": 6.0}
    lenient = {"failed": 1.0}
    broken = annotator(utterances, votes=2, price=price, serve={"faults": {"server_error": 0.5}})
    first = annotate(utterances, [broken], tmp_path, AnnotateSettings.model_validate({"stop": lenient}))
    failed = first.votes.frame.filter(pl.col("status") == "failed").height
    assert 10 < failed < 50
    assert first.findings.counts()["failed"] == failed
    assert first.spent.price == pytest.approx(30 * 0.2 / 60 * 6)
    fixed = annotator(utterances, votes=2, price=price)
    asked: list[Request] = []
    second = annotate(utterances, [fixed], tmp_path, AnnotateSettings(), engine_of=listening(asked))
    assert draws(asked) == failed
    assert set(second.votes.frame["status"]) == {"ok"}
    assert second.spent.price == pytest.approx(first.spent.price + len(asked) * 0.2 / 60 * 6)
    assert second.findings.counts()["asked_again"] == failed


def test_refused_and_unparsable_votes_are_counted_with_their_text_and_not_asked_again(
    corpus: Make, annotator: Make, tmp_path: Path
) -> None:
    utterances = corpus(4)
    texts = {
        "sim/00000": ["I'm sorry, but I can't help with that."],
        "sim/00001": ["banana"],
        "sim/00002": ["Frustrated"],
        "sim/00003": ["<think>happy?</think>not happy, sad"],
    }
    scripted = annotator(utterances, texts=texts, answer="words", votes=3)
    annotated = annotate(utterances, [scripted], tmp_path, AnnotateSettings())
    by_utterance = annotated.votes.frame.group_by("utterance_id").agg("status", "label", "stated").sort("utterance_id")
    assert by_utterance["status"].to_list() == [
        ["refused"] * 3,
        ["unparsable"] * 3,
        ["out_of_vocabulary"] * 3,
        ["ok"] * 3,
    ]
    assert by_utterance["label"].to_list()[3] == ["sad"] * 3
    assert by_utterance["stated"].to_list()[2] == ["Frustrated"] * 3
    asked: list[Request] = []
    annotate(utterances, [scripted], tmp_path, AnnotateSettings(), engine_of=listening(asked))
    assert asked == []
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as ledger:
        raw = ledger.execute("SELECT raw FROM vote WHERE status = 'ok'").fetchone()[0]
    assert raw == "<think>happy?</think>not happy, sad"


def test_scores_and_stated_distributions_give_draws_whose_weights_sum_to_one(
    corpus: Make, annotator: Make, tmp_path: Path
) -> None:
    utterances = corpus(5)
    score = annotator(utterances, "score", elicit="score", cross={"label_orders": 4})
    state = annotator(utterances, "state", elicit="state", prompt="distribution", votes=2)
    annotated = annotate(utterances, [score, state], tmp_path, AnnotateSettings())
    sums = annotated.votes.frame.group_by("utterance_id", "annotator", "draw").agg(pl.col("weight").sum())
    assert len(sums) == 5 * 4 + 5 * 2
    assert sums["weight"].to_numpy() == pytest.approx(np.ones(30))
    truth = pl.read_parquet(tmp_path / "score.parquet").sort("utterance_id").drop("utterance_id").to_numpy()
    for name in ("score", "state"):
        shares = (
            annotated.votes.frame.filter(pl.col("annotator") == name)
            .group_by("utterance_id", "label")
            .agg(pl.col("weight").sum())
        )
        wide = shares.pivot("label", index="utterance_id", values="weight").sort("utterance_id")
        got = wide.select(*utterances.taxonomy).fill_null(0.0).to_numpy()
        assert got / got.sum(axis=1, keepdims=True) == pytest.approx(truth, abs=1e-6)


def test_scores_divided_by_those_of_silence_say_both_in_the_ledger(
    corpus: Make, annotator: Make, tmp_path: Path
) -> None:
    utterances = corpus(3)
    scripted = annotator(utterances, elicit="score", cross={"label_orders": 2}, content_free=True)
    table = pl.read_parquet(tmp_path / "scripted.parquet")
    habit = pl.DataFrame({"utterance_id": ["silence"], "p_angry": 0.4, "p_happy": 0.3, "p_neutral": 0.2, "p_sad": 0.1})
    pl.concat([table, habit]).write_parquet(tmp_path / "scripted.parquet")
    annotated = annotate(utterances, [scripted], tmp_path / "out", AnnotateSettings())
    frame = annotated.votes.frame.filter(pl.col("draw") == 0).pivot("label", index="utterance_id", values="weight")
    truth = table.sort("utterance_id").drop("utterance_id").to_numpy() / np.array([0.4, 0.3, 0.2, 0.1])
    got = frame.sort("utterance_id").select(*utterances.taxonomy).to_numpy()
    assert got == pytest.approx(truth / truth.sum(axis=1, keepdims=True), abs=1e-6)
    with closing(sqlite3.connect(tmp_path / "out/ledger.sqlite")) as ledger:
        raw = [json.loads(text) for (text,) in ledger.execute("SELECT raw FROM vote")]
    assert {tuple(reply["silence"]) for reply in raw} == {tuple(np.log([0.4, 0.3, 0.2, 0.1]).round(6))}


def test_a_quiet_run_says_nothing(
    corpus: Make, annotator: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    utterances = corpus(3)
    annotate(utterances, [annotator(utterances)], tmp_path / "out", AnnotateSettings(), quiet=True)
    assert capsys.readouterr().err == ""


def test_signals_are_the_callers_again_afterwards(corpus: Make, annotator: Make, tmp_path: Path) -> None:
    def mine(number: int, frame: object) -> None: ...

    utterances = corpus(2)
    before = {signal_number: signal.signal(signal_number, mine) for signal_number in (signal.SIGTERM, signal.SIGINT)}
    try:
        annotate(utterances, [annotator(utterances)], tmp_path / "out", AnnotateSettings())
        assert [signal.getsignal(signal_number) for signal_number in before] == [mine, mine]
    finally:
        for signal_number, handler in before.items():
            signal.signal(signal_number, handler)


def test_attributes_are_votes_without_a_label(corpus: Make, annotator: Make, tmp_path: Path) -> None:
    utterances = corpus(2)
    texts = {"*": ['{"valence": 1, "arousal": 7, "dominance": 4}']}
    scripted = annotator(utterances, texts=texts, prompt="attributes", elicit="state", votes=2)
    frame = annotate(utterances, [scripted], tmp_path, AnnotateSettings()).votes.frame
    assert frame.select("valence", "arousal", "dominance").unique().row(0) == (0.0, 1.0, 0.5)
    assert frame["label"].null_count() == 4


def test_bad_recordings_are_failed_votes_and_rows_without_audio_findings(
    corpus: Make, annotator: Make, tmp_path: Path
) -> None:
    utterances = corpus(5)
    (tmp_path / "audio/sim/00000.wav").unlink()
    (tmp_path / "audio/sim/00001.wav").write_bytes(b"RIFF not really")
    frame = utterances.frame.with_columns(
        audio=pl.when(pl.col("utterance_id") == "sim/00002").then(None).otherwise("audio")
    )
    utterances = Utterances.of(frame, about=utterances.about)
    scripted = annotator(utterances, votes=2)
    annotated = annotate(utterances, [scripted], tmp_path / "out", AnnotateSettings())
    status = dict(annotated.votes.frame.group_by("utterance_id").agg(pl.col("status").first()).iter_rows())
    assert status == {"sim/00000": "failed", "sim/00001": "failed", "sim/00003": "ok", "sim/00004": "ok"}
    assert annotated.findings.counts()["no_audio"] == 1
    assert annotated.complete
    kinds = set(annotated.findings.frame.filter(pl.col("kind") == "failed")["where"])
    assert kinds == {"missing", "truncated"}


def test_audio_beyond_the_models_window_fails_unless_the_file_says_crop(
    corpus: Make, annotator: Make, tmp_path: Path
) -> None:
    utterances = corpus(3)
    asked: list[Request] = []
    window = listening(asked, max_audio_seconds=0.1)
    failed = annotate(
        utterances, [annotator(utterances, votes=1)], tmp_path / "a", AnnotateSettings(), engine_of=window
    )
    assert asked == []
    assert failed.findings.frame["where"].to_list() == ["too_long"]
    assert 'too_long = "crop"' in failed.findings.frame["fix"][0]
    crop = annotator(utterances, votes=1, too_long="crop")
    cropped = annotate(utterances, [crop], tmp_path / "b", AnnotateSettings(), engine_of=window)
    assert set(cropped.votes.frame["status"]) == {"ok"}
    assert {len(request.audio[0].samples) for request in asked} == {1600}


def test_a_recording_that_is_never_opened_whole_is_not_helped_by_crop(
    corpus: Make, annotator: Make, tmp_path: Path
) -> None:
    utterances = corpus(3)
    recording = Path(utterances.about.roots[utterances.frame["corpus"][0]]) / utterances.frame["audio"][0]
    soundfile.write(recording, np.ones(301 * 8000, dtype=np.float32) / 9, 8000)
    crop = annotator(utterances, votes=1, too_long="crop")
    cropped = annotate(utterances, [crop], tmp_path / "a", AnnotateSettings(injection=0), engine_of=listening([]))
    assert sorted(cropped.votes.frame["status"]) == ["failed", "ok", "ok"]
    (fix,) = cropped.findings.frame.filter(pl.col("where") == "too_long")["fix"]
    assert fix.startswith("Name the part to ask about by start and end")
    assert "Up to 300 s" in fix


def test_shards_share_the_work_and_nothing_is_asked_twice(corpus: Make, annotator: Make, tmp_path: Path) -> None:
    utterances = corpus(20)
    scripted = annotator(utterances, votes=2)
    asked: list[Request] = []
    for number in (1, 2, 3):
        settings = AnnotateSettings(shard=f"{number}/3")
        assert annotate(utterances, [scripted], tmp_path, settings, engine_of=listening(asked)).complete
    assert Counter(request.utterance_id for request in asked) == Counter(
        dict.fromkeys(utterances.frame["utterance_id"], 2)
    ) or Counter(request.utterance_id for request in asked) == Counter(utterances.frame["utterance_id"].to_list())
    with pytest.raises(SettingsError, match="is not a shard"):
        annotate(utterances, [scripted], tmp_path, AnnotateSettings(shard="4/3"))


def test_it_also_runs_where_a_loop_is_running_as_in_a_notebook(corpus: Make, annotator: Make, tmp_path: Path) -> None:
    utterances = corpus(2)
    scripted = annotator(utterances, votes=2)

    async def cell() -> bool:
        return annotate(utterances, [scripted], tmp_path, AnnotateSettings()).complete

    assert asyncio.run(cell())


@pytest.mark.parametrize("times", [1, 2])
def test_an_interrupt_in_a_notebook_stops_the_run_and_nothing_goes_on_without_the_ledger(
    corpus: Make, annotator: Make, tmp_path: Path, times: int
) -> None:
    utterances, main = corpus(30), threading.get_ident()
    scripted = annotator(utterances, votes=1, serve={"seconds": 0.2 if times == 1 else 30.0})
    ended = list[bool]()

    class Interrupting(list[Request]):
        def append(self, request: Request) -> None:
            super().append(request)
            if len(self) == 4:
                for number in range(times):
                    threading.Timer(0.1 + 0.5 * number, signal.pthread_kill, (main, signal.SIGINT)).start()

    async def cell(asked: list[Request]) -> None:
        try:
            engine_of = listening(asked, in_flight=4)
            annotated = annotate(utterances, [scripted], tmp_path, AnnotateSettings(), engine_of=engine_of)
            ended.append(annotated.interrupted and annotated.spent.cast == len(asked) >= 4)
        except KeyboardInterrupt:
            ended.append(times == 2)

    asked, loop = Interrupting(), asyncio.new_event_loop()  # asyncio.run would handle the signal itself
    with closing(loop):
        loop.run_until_complete(cell(asked))
    assert ended == [True]
    assert "alm-proxies" not in [thread.name for thread in threading.enumerate()]
    assert len(asked) < 30


def test_two_annotators_of_one_name_and_no_annotator_are_refused(corpus: Make, annotator: Make, tmp_path: Path) -> None:
    utterances = corpus(1)
    with pytest.raises(SettingsError, match="2 annotators named 'scripted'"):
        annotate(utterances, [annotator(utterances)] * 2, tmp_path / "out", AnnotateSettings())
    with pytest.raises(SettingsError, match="panel is empty"):
        annotate(utterances, [], tmp_path / "out", AnnotateSettings())


def test_a_new_price_table_counts_from_its_own_votes_on_also_where_the_clock_was_set_back(
    corpus: Make, annotator: Make, tmp_path: Path
) -> None:
    utterances, folder = corpus(25), tmp_path / "out"
    first = annotate(
        utterances, [annotator(utterances, votes=2, price={"audio_minute": 60.0})], folder, AnnotateSettings()
    )
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as sql, sql:
        sql.execute("UPDATE vote SET at = at + 1e6")
    dearer = annotate(
        utterances, [annotator(utterances, votes=3, price={"audio_minute": 600.0})], folder, AnnotateSettings()
    )
    assert first.spent.expected > 0
    assert dearer.spent.expected == pytest.approx(10 * first.spent.expected)
