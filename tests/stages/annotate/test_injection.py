import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from alm_proxies.about import About, AnnotatorCard, Injected, together
from alm_proxies.annotators.annotator import Annotator
from alm_proxies.cli.app import run as command
from alm_proxies.engines.engine import Engine, Request
from alm_proxies.engines.scripted import Scripted
from alm_proxies.errors import ForbiddenError
from alm_proxies.seeds import generator
from alm_proxies.stages.annotate.askable import shard_of
from alm_proxies.stages.annotate.ledger import Ledger
from alm_proxies.stages.annotate.ledgers import merge, status
from alm_proxies.stages.annotate.plan import ANSWER, CONTROL
from alm_proxies.stages.annotate.stage import Annotated, AnnotateSettings, annotate
from alm_proxies.tables import Utterances, Votes

Make = Callable[..., Any]
LABELS = ("angry", "happy", "neutral", "sad")
PRICE = {"audio_minute": 60.0}
"""A price of 1 per second of audio, so .2 per request about a recording of the fixture."""
CELLS = {"temperature": [0.6, 1.0], "focus": ["tone", "wording"]}


class Swayed:
    """Answers sad, or the injected answer if it `believes` it with that seed; records all requests."""

    def __init__(self, believes: Callable[[int], bool], **engine: Any) -> None:
        self.asked: list[Request] = []
        self._believes = believes
        self._engine = engine

    async def open(self, annotator: Annotator) -> Engine:
        return Scripted(script=self._script, **self._engine)

    def _script(self, request: Request, seed: int) -> str:
        if request not in self.asked:
            self.asked.append(request)
        label = told_in(request)
        return label if label is not None and self._believes(seed) else "sad"

    @property
    def told(self) -> int:
        """Requests with an injected answer."""
        return sum(told_in(request) is not None for request in self.asked)

    @property
    def controls(self) -> int:
        return sum(CONTROL in str(request.questions[0].turns[-1].parts[-1]) for request in self.asked)


def told_in(request: Request) -> str | None:
    said = str(request.questions[0].turns[-1].parts[-1])
    before, after = ANSWER.split("{label}")
    return said.split(before, 1)[1].split(after, 1)[0] if before in said else None


def never(_: int) -> bool:
    return False


def always(_: int) -> bool:
    return True


def by_seed(seed: int) -> bool:
    return seed * 2_654_435_761 % 2**32 < 0.3 * 2**32


@pytest.fixture
def panel(annotator: Make) -> Make:
    """Makes a panel of one annotator with transcripts in its prompt, four cells, and two votes per cell."""

    def make(utterances: Utterances, **settings: Any) -> list[Annotator]:
        values = {"prompt": "reference", "answer": "words", "votes": 8, "cross": CELLS, "price": PRICE}
        return [annotator(utterances, **{**values, **settings})]

    return make


def measured(votes: Votes, name: str = "scripted") -> Injected:
    found = votes.about.annotators[name].injected
    assert found is not None
    return found


def as_drawn(utterance_id: str, seed: int) -> str:
    return LABELS[int(generator(seed, "injection", utterance_id).integers(len(LABELS)))]


def test_the_share_of_votes_that_an_injected_transcript_turns_is_that_of_the_annotator(
    corpus: Make, panel: Make, tmp_path: Path
) -> None:
    utterances = corpus(16)
    (one,) = panel(utterances)
    settings = AnnotateSettings(seed=3, injection=16)
    ready = one.ready(LABELS)
    could = [name for name in utterances.frame["utterance_id"] if as_drawn(name, 3) != "sad"]
    assert 0 < len(could) < 16
    turned = [by_seed(ready.seed_of_draw(3, name, draw)) for name in could for draw in range(8)]
    assert 0.1 < np.mean(turned) < 0.5
    for name, believes, share in (("no", never, 0.0), ("yes", always, 1.0), ("some", by_seed, np.mean(turned))):
        engine = Swayed(believes)
        made = annotate(utterances, [one], tmp_path / name, settings, engine_of=engine.open, quiet=True)
        found = measured(made.votes)
        assert found.share == pytest.approx(share)
        assert (found.votes, found.by_chance, found.utterances) == (8.0 * len(could), 0.0, 16)
        assert found.low is not None
        assert found.high is not None
        assert 0 <= found.low <= share <= found.high <= 1
        assert found.high - found.low > 0.05
        assert len(made.votes) == 16 * 8
        assert set(made.votes.frame["label"]) == {"sad"}
        assert (made.spent.injected, made.spent.injected_cast) == (2 * 16 * 8, 2 * 16 * 8)
        assert made.complete


def test_where_every_vote_or_none_was_turned_the_interval_is_that_of_so_many_speakers(
    corpus: Make, panel: Make, tmp_path: Path
) -> None:
    utterances = corpus(16, speaker=[f"sim/{number}" for number in range(16)])
    for believes, ends in ((never, (0.0, 1 - 0.025 ** (1 / 16))), (always, (0.025 ** (1 / 16), 1.0))):
        settings, engine = AnnotateSettings(injection=16), Swayed(believes)
        folder = tmp_path / believes.__name__
        found = measured(annotate(utterances, panel(utterances), folder, settings, engine_of=engine.open).votes)
        assert (found.low, found.high) == pytest.approx(ends)


def test_a_distribution_is_turned_by_what_moves_to_the_told_label(
    corpus: Make, annotator: Make, tmp_path: Path
) -> None:
    utterances = corpus(6)
    one = annotator(utterances, prompt="distribution", elicit="state", votes=1)

    def script(request: Request, _: int) -> str:
        label = told_in(request)
        toward = 0.25 if label is not None else 0.1 if CONTROL in str(request.questions[0].turns[-1].parts[-1]) else 0
        shares = dict.fromkeys(LABELS, (1 - toward) * 0.25)
        shares[label or as_drawn(request.utterance_id, 0)] += toward
        return json.dumps({name: round(share, 9) for name, share in shares.items()})

    async def engine_of(_: Annotator) -> Engine:
        return Scripted(script=script)

    made = annotate(utterances, [one], tmp_path, AnnotateSettings(injection=6), engine_of=engine_of, quiet=True)
    found = measured(made.votes)
    assert found.votes == pytest.approx(6 * 0.75)
    assert found.share == pytest.approx(0.25)
    assert found.by_chance == pytest.approx(0.1)


def test_it_asks_each_cell_twice_more_about_so_many_utterances_and_all_of_it_is_on_the_bill(
    corpus: Make, panel: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    utterances, engine = corpus(12), Swayed(always)
    made = annotate(utterances, panel(utterances), tmp_path, AnnotateSettings(injection=3), engine_of=engine.open)
    assert (engine.told, engine.controls, len(engine.asked)) == (3 * 4, 3 * 4, 12 * 4 + 24)
    assert made.spent.price == pytest.approx((12 + 6) * 4 * 0.2)
    assert made.spent.expected == pytest.approx(made.spent.price)
    told = capsys.readouterr().err
    assert "96 votes to request on 12 utterances, 48 more on 3 of them with injected transcripts" in told
    assert f"about {made.spent.price:.2f}" in told


def test_running_again_asks_for_nothing_and_another_prompt_or_transcript_is_measured_anew(
    corpus: Make, panel: Make, tmp_path: Path
) -> None:
    utterances, settings = corpus(6), AnnotateSettings(injection=4)

    def run(table: Utterances, believes: Callable[[int], bool], **file: Any) -> tuple[Swayed, Annotated]:
        engine = Swayed(believes)
        return engine, annotate(table, panel(table, **file), tmp_path, settings, engine_of=engine.open, quiet=True)

    first, made = run(utterances, always)
    written = (tmp_path / "votes.parquet").read_bytes()
    again, remade = run(utterances, never)
    assert (len(first.asked), len(again.asked)) == (6 * 4 + 4 * 8, 0)
    assert (tmp_path / "votes.parquet").read_bytes() == written
    assert remade.spent.price == made.spent.price
    assert "annotator_changed" not in remade.findings.counts()
    more, raised = run(utterances, always, votes=12)
    assert (more.told, more.controls) == (16, 16)
    assert measured(raised.votes).votes == pytest.approx(1.5 * measured(made.votes).votes)
    chosen = more.asked[-1].utterance_id
    said = pl.when(pl.col("utterance_id") == chosen).then(pl.lit("Now another.")).otherwise("transcript")
    changed = Utterances(utterances.frame.with_columns(transcript=said), utterances.about)
    third, _ = run(changed, always, votes=12)
    assert {request.utterance_id for request in third.asked} == {chosen}
    assert (third.told, third.controls, len(third.asked)) == (4, 4, 12)
    other, found = run(utterances, never, model="another")
    assert (other.told, measured(found.votes).share) == (16, 0.0)


def test_off_small_runs_and_prompts_without_transcripts_ask_nothing_more(
    corpus: Make, annotator: Make, panel: Make, tmp_path: Path
) -> None:
    utterances = corpus(45)
    for number, (settings, told) in enumerate(
        ((AnnotateSettings(injection=0), 0), (AnnotateSettings(limit=9), 0), (AnnotateSettings(), 4 * 4))
    ):
        engine = Swayed(never)
        some = panel(utterances, votes=4)
        annotate(utterances, some, tmp_path / str(number), settings, engine_of=engine.open, quiet=True)
        assert engine.told == engine.controls == told
    engine = Swayed(never)
    deaf = [annotator(utterances, votes=1, answer="words")]
    made = annotate(utterances, deaf, tmp_path / "deaf", AnnotateSettings(injection=9), engine_of=engine.open)
    assert engine.told == 0
    card = made.votes.about.annotators["scripted"]
    assert (card.context, card.injected) == ((), None)


def test_utterances_without_any_transcript_are_a_finding(corpus: Make, panel: Make, tmp_path: Path) -> None:
    utterances, engine = corpus(6, transcript=[None, "", *[" "] * 4]), Swayed(always)
    made = annotate(utterances, panel(utterances), tmp_path, AnnotateSettings(), engine_of=engine.open, quiet=True)
    assert made.findings.counts()["nothing_to_inject"] == 1
    assert made.votes.about.annotators["scripted"].injected is None
    assert (engine.told, engine.controls) == (0, 0)
    assert made.complete


def test_votes_come_first_and_the_budget_is_never_passed(corpus: Make, panel: Make, tmp_path: Path) -> None:
    utterances, engine = corpus(6), Swayed(always)
    settings = AnnotateSettings(injection=6, budget=6 * 4 * 0.2 + 9 * 0.2)
    made = annotate(utterances, panel(utterances), tmp_path, settings, engine_of=engine.open, quiet=True)
    assert made.spent.cast == made.spent.planned
    assert made.spent.price == pytest.approx(settings.budget)
    assert made.spent.injected_cast == 9 * 2
    assert not made.complete
    assert made.stopped is not None
    assert made.stopped.startswith(f"the next request could exceed the budget of {settings.budget:g}: 6.60 are spent")
    assert made.findings.counts()["injection_not_cast"] == 2 * 6 * 8 - 9 * 2
    on = annotate(utterances, panel(utterances), tmp_path, AnnotateSettings(injection=6), engine_of=engine.open)
    assert on.complete
    assert len(engine.asked) == 6 * 4 * 3
    assert on.spent.price == pytest.approx(6 * 4 * 3 * 0.2)


def test_failures_count_neither_way_are_said_and_asked_again(corpus: Make, panel: Make, tmp_path: Path) -> None:
    utterances = corpus(8)
    broken = Swayed(always, faults={"server_error": 0.3})
    lenient = AnnotateSettings.model_validate({"injection": 8, "stop": {"failed": 1.0}})
    made = annotate(utterances, panel(utterances), tmp_path, lenient, engine_of=broken.open, quiet=True)
    failed = made.findings.counts()["injection_failed"]
    assert 0 < failed < 2 * 8 * 8
    assert measured(made.votes).share == 1.0
    assert made.spent.price == pytest.approx(8 * 4 * 3 * 0.2)
    whole = Swayed(always)
    again = annotate(utterances, panel(utterances), tmp_path, lenient, engine_of=whole.open, quiet=True)
    assert "injection_failed" not in again.findings.counts()
    assert measured(again.votes).votes > measured(made.votes).votes
    assert 2 * (whole.told + whole.controls) == failed


def test_a_pilot_extrapolates_what_injection_costs_the_whole_too(corpus: Make, panel: Make, tmp_path: Path) -> None:
    utterances = corpus(40)
    for wanted, pilot, whole in ((2, 10 * 4 + 16, 40 * 4 + 16), (None, 10 * 4 + 8, 40 * 4 + 32)):
        settings, engine = AnnotateSettings(limit=10, injection=wanted), Swayed(always)
        folder = tmp_path / str(wanted)
        made = annotate(utterances, panel(utterances), folder, settings, engine_of=engine.open, quiet=True)
        assert made.spent.price == pytest.approx(pilot * 0.2)
        assert made.spent.whole == pytest.approx(whole * 0.2)


@pytest.fixture
def files(annotator_files: Make) -> list[str]:
    """A file of 40 utterances, and an annotator with transcripts in its prompt: 160 requests, and 32 injected ones."""
    made: list[str] = annotator_files(
        40,
        'prompt = "reference"',
        'cross = { temperature = [0.6, 1.0], focus = ["tone", "wording"] }',
        "price = { audio_minute = 60.0 }",
        seconds=0.02,
    )
    return made


@pytest.mark.parametrize("name", [signal.SIGKILL, signal.SIGTERM])
def test_killed_or_stopped_while_injecting_the_same_command_ends_with_the_same_votes_and_asks_only_what_is_missing(
    files: list[str], tmp_path: Path, name: signal.Signals
) -> None:
    run = [sys.executable, str(Path(__file__).with_name("annotate_until_killed.py")), *files]
    with subprocess.Popen(
        [*run, str(tmp_path / "out"), "4"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as child:
        assert child.stdout is not None
        first = [line for _, line in zip(range(160 + 8), child.stdout, strict=False)]
        child.send_signal(name)
        first += child.stdout.readlines()
    second = subprocess.run([*run, str(tmp_path / "out"), "4"], check=True, capture_output=True, text=True)
    whole = subprocess.run([*run, str(tmp_path / "whole"), "4"], check=True, capture_output=True, text=True)
    sent = [sum("|" in line for line in lines) for lines in (first, second.stdout.split(), whole.stdout.split())]
    assert sent[2] == 160 + 32
    assert 160 + 8 <= sent[0] < 160 + 32
    assert sent[2] <= sent[0] + sent[1] <= sent[2] + (4 if name is signal.SIGKILL else 0)
    assert (tmp_path / "out/votes.parquet").read_bytes() == (tmp_path / "whole/votes.parquet").read_bytes()
    assert measured(Votes.read(tmp_path / "out/votes.parquet")).utterances == 4
    if name is signal.SIGTERM:
        assert "interrupted=True" in first[-1]


def test_the_command_takes_how_many_and_says_what_came_of_it(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = ["annotate", files[0], "--annotator", files[1], "-o", str(tmp_path / "out"), "--injection", "6"]
    assert command(said) == 0
    line = capsys.readouterr().out
    found = measured(Votes.read(tmp_path / "out/votes.parquet"))
    assert found.utterances == 6
    assert line.rstrip().endswith(f"; scripted: {found} in {tmp_path / 'out'}")
    assert 'an injected "The answer is ..." turns 0% (0% to ' in line
    assert command([*said, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["injected"] == {"scripted": found.model_dump()}
    assert (data["spent"]["injected"], data["spent"]["injected_cast"]) == (48, 48)
    assert command(["status", str(tmp_path / "out"), "--json"]) == 0
    (now,) = json.loads(capsys.readouterr().out)["ledgers"]
    assert now["injected"] == data["injected"]
    assert command([*said[:-1], "-1"]) == 2


def test_a_stopped_annotator_is_not_asked_any_further(corpus: Make, panel: Make, tmp_path: Path) -> None:
    utterances, engine = corpus(40), Swayed(always)
    made = annotate(utterances, panel(utterances), tmp_path, AnnotateSettings(injection=40), engine_of=engine.open)
    assert made.stopped is not None
    assert "gives sad" in made.stopped
    assert engine.told == 0


def test_a_restricted_transcript_is_not_sent_to_a_server(corpus: Make, annotator: Make, tmp_path: Path) -> None:
    utterances = corpus(2, "secret")
    one = annotator(utterances, prompt="reference")
    file = one.file.model_copy(update={"engine": "openai", "serve": {"base_urls": ["http://192.0.2.1/v1"]}})
    with pytest.raises(ForbiddenError):
        annotate(utterances, [Annotator.of(file)], tmp_path, AnnotateSettings(injection=2))


def test_shards_share_the_utterances_and_merged_ones_are_measured_together(
    corpus: Make, panel: Make, tmp_path: Path
) -> None:
    utterances = corpus(30)
    parts = []
    for number in (1, 2, 3):
        engine = Swayed(by_seed)
        settings = AnnotateSettings(injection=8, shard=f"{number}/3", seed=5)
        annotate(utterances, panel(utterances), tmp_path / "parts", settings, engine_of=engine.open, quiet=True)
        parts.append(engine.told // 4)
    assert parts == [3, 3, 2]
    assert shard_of("3/3") == (3, 3)
    merged = merge([tmp_path / "parts"], tmp_path / "merged")
    found = measured(merged.votes)
    alone = [measured(Votes.read(tmp_path / f"parts/votes.{n}-of-3.parquet")) for n in (1, 2, 3)]
    assert found.utterances == 8
    assert found.votes == sum(one.votes for one in alone)
    assert found.share * found.votes == pytest.approx(sum(one.share * one.votes for one in alone))
    assert measured(Votes.read(tmp_path / "merged/votes.parquet")) == found
    (now,) = status(tmp_path / "merged")
    assert now.injected == {"scripted": found.model_dump()}
    assert f"scripted: {found}" in str(now)
    assert now.price == pytest.approx((30 + 16) * 4 * 0.2)


def test_the_ledger_keeps_the_injected_votes_apart_from_the_panel(corpus: Make, panel: Make, tmp_path: Path) -> None:
    utterances, engine = corpus(5), Swayed(always)
    annotate(utterances, panel(utterances), tmp_path, AnnotateSettings(injection=5), engine_of=engine.open, quiet=True)
    with Ledger.look(tmp_path / "ledger.sqlite") as ledger:
        names = {name for (name,) in ledger._sql.execute("SELECT name FROM annotator")}
        labels = dict(ledger._sql.execute("SELECT u.name, label FROM injection JOIN utterance u ON u.id = utterance"))
        requests = ledger._sql.execute("SELECT COUNT(request), COUNT(DISTINCT request) FROM vote").fetchone()
    assert names == {"scripted", f"scripted told {ANSWER!r}", f"scripted told {CONTROL!r}"}
    assert labels == {name: as_drawn(name, 0) for name in utterances.frame["utterance_id"]}
    assert requests == (5 * 8 * 3, 5 * 8 * 3)


def test_of_two_cards_of_one_annotator_the_better_measured_one_is_kept() -> None:
    few = Injected(utterances=2, votes=3.0, share=0.5, by_chance=0.0)
    many = few.model_copy(update={"votes": 30.0, "share": 0.25})
    parts = [About(annotators={"a": AnnotatorCard(digest="d", injected=one)}) for one in (None, few, many, None)]
    for order in (parts, parts[::-1]):
        assert together(order).annotators["a"].injected == many
