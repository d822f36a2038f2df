import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from forked import Forked

from alm_proxies.about import About, AnnotatorCard, Injected, together
from alm_proxies.annotators.annotator import Annotator
from alm_proxies.cli.app import run as command
from alm_proxies.engines.engine import Engine, Request
from alm_proxies.engines.scripted import Scripted
from alm_proxies.errors import ForbiddenError
from alm_proxies.seeds import generator
from alm_proxies.stages.annotate.askable import shard_of
from alm_proxies.stages.annotate.injection import ANSWER, CONTROL
from alm_proxies.stages.annotate.ledger import Ledger
from alm_proxies.stages.annotate.ledgers import status
from alm_proxies.stages.annotate.merging import merge
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
    prompt = str(request.questions[0].turns[-1].parts[-1])
    before, after = ANSWER.split("{label}")
    return prompt.split(before, 1)[1].split(after, 1)[0] if before in prompt else None


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
    injected = votes.about.annotators[name].injected
    assert injected is not None
    return injected


def as_drawn(utterance_id: str, seed: int) -> str:
    return LABELS[int(generator(seed, "injection", utterance_id).integers(len(LABELS)))]


def test_the_share_of_votes_that_an_injected_transcript_turns_is_that_of_the_annotator(
    corpus: Make, panel: Make, tmp_path: Path
) -> None:
    utterances = corpus(16)
    (swayed,) = panel(utterances)
    settings = AnnotateSettings(seed=3, injection=16)
    ready = swayed.ready(LABELS)
    could = [name for name in utterances.frame["utterance_id"] if as_drawn(name, 3) != "sad"]
    assert 0 < len(could) < 16
    turned = [by_seed(ready.seed_of_draw(3, name, draw)) for name in could for draw in range(8)]
    assert 0.1 < np.mean(turned) < 0.5
    for name, believes, share in (("no", never, 0.0), ("yes", always, 1.0), ("some", by_seed, np.mean(turned))):
        engine = Swayed(believes)
        annotated = annotate(utterances, [swayed], tmp_path / name, settings, engine_of=engine.open, quiet=True)
        injected = measured(annotated.votes)
        assert injected.share == pytest.approx(share)
        assert (injected.votes, injected.by_chance, injected.utterances) == (8.0 * len(could), 0.0, 16)
        assert injected.low is not None
        assert injected.high is not None
        assert 0 <= injected.low <= share <= injected.high <= 1
        assert injected.high - injected.low > 0.05
        assert len(annotated.votes) == 16 * 8
        assert set(annotated.votes.frame["label"]) == {"sad"}
        assert (annotated.spent.injected, annotated.spent.injected_cast) == (2 * 16 * 8, 2 * 16 * 8)
        assert annotated.complete


def test_where_every_vote_or_none_was_turned_the_interval_is_that_of_so_many_speakers(
    corpus: Make, panel: Make, tmp_path: Path
) -> None:
    utterances = corpus(16, speaker=[f"sim/{number}" for number in range(16)])
    settings = AnnotateSettings(injection=16)
    could = sum(as_drawn(name, settings.seed) != "sad" for name in utterances.frame["utterance_id"])
    assert 1 < could < 16, "a vote for the told label cannot be turned: nothing is known of such a speaker"
    for believes, ends in ((never, (0.0, 1 - 0.025 ** (1 / could))), (always, (0.025 ** (1 / could), 1.0))):
        engine = Swayed(believes)
        folder = tmp_path / believes.__name__
        injected = measured(annotate(utterances, panel(utterances), folder, settings, engine_of=engine.open).votes)
        assert (injected.low, injected.high) == pytest.approx(ends)


def test_a_distribution_is_turned_by_what_moves_to_the_told_label(
    corpus: Make, annotator: Make, tmp_path: Path
) -> None:
    utterances = corpus(6)
    stating = annotator(utterances, prompt="distribution", elicit="state", votes=1)

    def script(request: Request, _: int) -> str:
        label = told_in(request)
        toward = 0.25 if label is not None else 0.1 if CONTROL in str(request.questions[0].turns[-1].parts[-1]) else 0
        shares = dict.fromkeys(LABELS, (1 - toward) * 0.25)
        shares[label or as_drawn(request.utterance_id, 0)] += toward
        return json.dumps({name: round(share, 9) for name, share in shares.items()})

    async def engine_of(_: Annotator) -> Engine:
        return Scripted(script=script)

    annotated = annotate(
        utterances, [stating], tmp_path, AnnotateSettings(injection=6), engine_of=engine_of, quiet=True
    )
    injected = measured(annotated.votes)
    assert injected.votes == pytest.approx(6 * 0.75)
    assert injected.share == pytest.approx(0.25)
    assert injected.by_chance == pytest.approx(0.1)


def test_it_asks_each_cell_twice_more_about_so_many_utterances_and_all_of_it_is_on_the_bill(
    corpus: Make, panel: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    utterances, engine = corpus(12), Swayed(always)
    annotated = annotate(utterances, panel(utterances), tmp_path, AnnotateSettings(injection=3), engine_of=engine.open)
    assert (engine.told, engine.controls, len(engine.asked)) == (3 * 4, 3 * 4, 12 * 4 + 24)
    assert annotated.spent.price == pytest.approx((12 + 6) * 4 * 0.2)
    assert annotated.spent.expected == pytest.approx(annotated.spent.price)
    output = capsys.readouterr().err
    assert "96 votes to request on 12 utterances, 48 more on 3 of them with injected transcripts" in output
    assert f"about {annotated.spent.price:.2f}" in output


def test_running_again_asks_for_nothing_and_another_prompt_or_transcript_is_measured_anew(
    corpus: Make, panel: Make, tmp_path: Path
) -> None:
    utterances, settings = corpus(6), AnnotateSettings(injection=4)

    def run(table: Utterances, believes: Callable[[int], bool], **file: Any) -> tuple[Swayed, Annotated]:
        engine = Swayed(believes)
        return engine, annotate(table, panel(table, **file), tmp_path, settings, engine_of=engine.open, quiet=True)

    first, annotated = run(utterances, always)
    written = (tmp_path / "votes.parquet").read_bytes()
    again, remade = run(utterances, never)
    assert (len(first.asked), len(again.asked)) == (6 * 4 + 4 * 8, 0)
    assert (tmp_path / "votes.parquet").read_bytes() == written
    assert remade.spent.price == annotated.spent.price
    assert "annotator_changed" not in remade.findings.counts()
    more, raised = run(utterances, always, votes=12)
    assert (more.told, more.controls) == (16, 16)
    assert measured(raised.votes).votes == pytest.approx(1.5 * measured(annotated.votes).votes)
    chosen = more.asked[-1].utterance_id
    transcript = pl.when(pl.col("utterance_id") == chosen).then(pl.lit("Now another.")).otherwise("transcript")
    changed = Utterances(utterances.frame.with_columns(transcript=transcript), utterances.about)
    third, _ = run(changed, always, votes=12)
    assert {request.utterance_id for request in third.asked} == {chosen}
    assert (third.told, third.controls, len(third.asked)) == (4, 4, 12)
    other, renamed = run(utterances, never, model="another")
    assert (other.told, measured(renamed.votes).share) == (16, 0.0)


def test_off_small_runs_and_prompts_without_transcripts_ask_nothing_more(
    corpus: Make, annotator: Make, panel: Make, tmp_path: Path
) -> None:
    utterances = corpus(45)
    for number, (settings, requests) in enumerate(
        ((AnnotateSettings(injection=0), 0), (AnnotateSettings(limit=9), 0), (AnnotateSettings(), 4 * 4))
    ):
        engine = Swayed(never)
        some = panel(utterances, votes=4)
        annotate(utterances, some, tmp_path / str(number), settings, engine_of=engine.open, quiet=True)
        assert engine.told == engine.controls == requests
    engine = Swayed(never)
    deaf = [annotator(utterances, votes=1, answer="words")]
    annotated = annotate(utterances, deaf, tmp_path / "deaf", AnnotateSettings(injection=9), engine_of=engine.open)
    assert engine.told == 0
    card = annotated.votes.about.annotators["scripted"]
    assert (card.context, card.injected) == ((), None)


def test_utterances_without_any_transcript_are_a_finding(corpus: Make, panel: Make, tmp_path: Path) -> None:
    utterances, engine = corpus(6, transcript=[None, "", *[" "] * 4]), Swayed(always)
    annotated = annotate(utterances, panel(utterances), tmp_path, AnnotateSettings(), engine_of=engine.open, quiet=True)
    assert annotated.findings.counts()["nothing_to_inject"] == 1
    assert annotated.votes.about.annotators["scripted"].injected is None
    assert (engine.told, engine.controls) == (0, 0)
    assert annotated.complete


def test_votes_come_first_and_the_budget_is_never_passed(corpus: Make, panel: Make, tmp_path: Path) -> None:
    utterances, engine = corpus(6), Swayed(always)
    settings = AnnotateSettings(injection=6, budget=6 * 4 * 0.2 + 9 * 0.2)
    annotated = annotate(utterances, panel(utterances), tmp_path, settings, engine_of=engine.open, quiet=True)
    assert annotated.spent.cast == annotated.spent.planned
    assert annotated.spent.price == pytest.approx(settings.budget)
    assert annotated.spent.injected_cast == 9 * 2
    assert not annotated.complete
    assert annotated.stopped is not None
    assert annotated.stopped.startswith(
        f"the next request could exceed the budget of {settings.budget:g}: 6.60 are spent"
    )
    assert annotated.findings.counts()["injection_not_cast"] == 2 * 6 * 8 - 9 * 2
    on = annotate(utterances, panel(utterances), tmp_path, AnnotateSettings(injection=6), engine_of=engine.open)
    assert on.complete
    assert len(engine.asked) == 6 * 4 * 3
    assert on.spent.price == pytest.approx(6 * 4 * 3 * 0.2)


def test_failures_count_neither_way_are_said_and_asked_again(corpus: Make, panel: Make, tmp_path: Path) -> None:
    utterances = corpus(8)
    broken = Swayed(always, faults={"server_error": 0.3})
    lenient = AnnotateSettings.model_validate({"injection": 8, "stop": {"failed": 1.0}})
    annotated = annotate(utterances, panel(utterances), tmp_path, lenient, engine_of=broken.open, quiet=True)
    failed = annotated.findings.counts()["injection_failed"]
    assert 0 < failed < 2 * 8 * 8
    assert measured(annotated.votes).share == 1.0
    assert annotated.spent.price == pytest.approx(8 * 4 * 3 * 0.2)
    whole = Swayed(always)
    again = annotate(utterances, panel(utterances), tmp_path, lenient, engine_of=whole.open, quiet=True)
    assert "injection_failed" not in again.findings.counts()
    assert measured(again.votes).votes > measured(annotated.votes).votes
    assert 2 * (whole.told + whole.controls) == failed


def test_a_pilot_extrapolates_what_injection_costs_the_whole_too(corpus: Make, panel: Make, tmp_path: Path) -> None:
    utterances = corpus(40)
    for wanted, pilot, whole in ((2, 10 * 4 + 16, 40 * 4 + 16), (None, 10 * 4 + 8, 40 * 4 + 32)):
        settings, engine = AnnotateSettings(limit=10, injection=wanted), Swayed(always)
        folder = tmp_path / str(wanted)
        annotated = annotate(utterances, panel(utterances), folder, settings, engine_of=engine.open, quiet=True)
        assert annotated.spent.price == pytest.approx(pilot * 0.2)
        assert annotated.spent.whole == pytest.approx(whole * 0.2)


@pytest.fixture
def files(annotator_files: Make) -> list[str]:
    """A file of 40 utterances, and an annotator with transcripts in its prompt: 160 requests, and 32 injected ones."""
    paths: list[str] = annotator_files(
        40,
        'prompt = "reference"',
        'cross = { temperature = [0.6, 1.0], focus = ["tone", "wording"] }',
        "price = { audio_minute = 60.0 }",
        seconds=0.02,
    )
    return paths


@pytest.mark.parametrize("name", [signal.SIGKILL, signal.SIGTERM])
def test_killed_or_stopped_while_injecting_the_same_command_ends_with_the_same_votes_and_asks_only_what_is_missing(
    files: list[str], tmp_path: Path, name: signal.Signals
) -> None:
    script = Path(__file__).with_name("annotate_until_killed.py")
    with Forked(script, *files, str(tmp_path / "out"), "4") as child:
        first = [line for _, line in zip(range(160 + 8), child.stdout, strict=False)]
        child.send_signal(name)
        first += child.stdout.readlines()
    second, whole = (Forked.done(script, *files, str(tmp_path / name), "4") for name in ("out", "whole"))
    assert (second.returncode, whole.returncode) == (0, 0)
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
    command_line = ["annotate", files[0], "--annotator", files[1], "-o", str(tmp_path / "out"), "--injection", "6"]
    assert command(command_line) == 0
    line = capsys.readouterr().out
    injected = measured(Votes.read(tmp_path / "out/votes.parquet"))
    assert injected.utterances == 6
    assert line.rstrip().endswith(f"; scripted: {injected} in {tmp_path / 'out'}")
    assert 'an injected "The answer is ..." turns 0% (0% to ' in line
    assert command([*command_line, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["injected"] == {"scripted": injected.model_dump()}
    assert (data["spent"]["injected"], data["spent"]["injected_cast"]) == (48, 48)
    assert command(["status", str(tmp_path / "out"), "--json"]) == 0
    (now,) = json.loads(capsys.readouterr().out)["ledgers"]
    assert now["injected"] == data["injected"]
    assert command([*command_line[:-1], "-1"]) == 2


def test_a_stopped_annotator_is_not_asked_any_further(corpus: Make, panel: Make, tmp_path: Path) -> None:
    utterances, engine = corpus(40), Swayed(always)
    annotated = annotate(utterances, panel(utterances), tmp_path, AnnotateSettings(injection=40), engine_of=engine.open)
    assert annotated.stopped is not None
    assert "gives sad" in annotated.stopped
    assert engine.told == 0


def test_a_restricted_transcript_is_not_sent_to_a_server(corpus: Make, annotator: Make, tmp_path: Path) -> None:
    utterances = corpus(2, "secret")
    annotator_read = annotator(utterances, prompt="reference")
    file = annotator_read.file.model_copy(update={"engine": "openai", "serve": {"base_urls": ["http://192.0.2.1/v1"]}})
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
    injected = measured(merged.votes)
    alone = [measured(Votes.read(tmp_path / f"parts/votes.{n}-of-3.parquet")) for n in (1, 2, 3)]
    assert injected.utterances == 8
    assert injected.votes == sum(part.votes for part in alone)
    assert injected.share * injected.votes == pytest.approx(sum(part.share * part.votes for part in alone))
    assert measured(Votes.read(tmp_path / "merged/votes.parquet")) == injected
    (now,) = status(tmp_path / "merged")
    assert now.injected == {"scripted": injected.model_dump()}
    assert f"scripted: {injected}" in str(now)
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
    parts = [
        About(annotators={"a": AnnotatorCard(digest="d", injected=injected)}) for injected in (None, few, many, None)
    ]
    for order in (parts, parts[::-1]):
        assert together(order).annotators["a"].injected == many
