"""Votes saved on real speech, and anchors for CREMA-D: learning curves of human votes alone and beside a listener.

k = 1 to 4 human votes with four others held out; k = 1, 3 and 5 to 8 with one held out of clips that have nine or more;
samples of 200, 400 and 1,000 clips and all. Human votes alone are fused by `auto`; the listener is that of `listen`
with default settings, out of fold by actor (crema_d_folds.csv), in one round or two. k = 0 stands for a listener
trained on all votes of the other folds. Runs that are done are kept. The lockbox is left out.

    ALM_PROXIES_TEST_DATA=DATA python benchmarks/study/votes_saved.py run --model WHISPER_TINY_FOLDER --keep FOLDER
    ALM_PROXIES_TEST_DATA=DATA python benchmarks/study/votes_saved.py report --keep FOLDER
    ALM_PROXIES_TEST_DATA=DATA python benchmarks/study/votes_saved.py picture --keep FOLDER --out docs/images
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
from study_design import AUTO, SMALLEST_DIFFERENCE
from study_report import shown, table
from study_results import Results
from study_statistics import Contrast, by_actor, contrast
from study_targets import fuse_votes, fused, shares_of
from study_votes import LABELS, Array, Corpus, Index, counted, ordered_votes, read_corpus, refuse_lockbox

from alm_proxies.errors import AlmProxiesError
from alm_proxies.measures.divergence import jsd_base2
from alm_proxies.measures.jsd_floor import jsd_floor
from alm_proxies.report import charts
from alm_proxies.report.charts import Line, Series
from alm_proxies.report.page import Chart
from alm_proxies.seeds import generator
from alm_proxies.stages.listen.hear import hear
from alm_proxies.stages.listen.relabel import relabelling
from alm_proxies.stages.listen.settings import ListenSettings
from alm_proxies.training.folds import Material, cross_fit
from alm_proxies.training.head_settings import HeadSettings
from alm_proxies.training.heads import Floats

KINDS = ("human", "listener 1", "fused 1", "listener 2", "fused 2")
"""Kinds of label: the human votes alone, and the listener alone and fused after one round and after two."""
FOLDS_FILE = Path(__file__).with_name("crema_d_folds.csv")
FEW_ACTORS = 8
"""Groups of fewer actors are shown and not judged."""
_MANY = (1, 3, 5, 6, 7, 8)
"""Human votes a clip where one is held out of clips with nine or more."""
_SIZES: tuple[int | None, ...] = (None, 1000, 400, 200)


@dataclass(frozen=True, slots=True)
class Run:
    """One draw of the votes: how many clips (None = all), human votes a clip, held-out votes a clip."""

    size: int | None
    k: int
    held: int
    draw: int
    rounds: int = 1

    @property
    def key(self) -> str:
        """The name under which it is kept."""
        return f"{self.size or 'all'}_k{self.k}_held{self.held}_draw{self.draw}_rounds{self.rounds}"


def runs() -> Iterator[Run]:
    """All runs, the most important first."""
    for draw in range(5):
        yield from (Run(None, k, 4, draw) for k in (1, 4, 3, 2))
        if draw < 3:
            yield Run(None, 0, 4, draw)
        if draw == 0:
            yield from (Run(size, k, 4, repeat) for size in _SIZES[1:] for k in (1, 3) for repeat in range(3))
        yield from (Run(None, k, 4, draw, 2) for k in (1, 3))
    for draw in range(8):
        yield from (Run(None, k, 1, draw) for k in _MANY)
    yield from (Run(size, k, 4, draw) for draw in range(3, 10) for size in _SIZES[1:] for k in (1, 3))


def split_votes(corpus: Corpus, rows: Index, run: Run) -> tuple[Array, Array]:
    """The fitted votes and the held-out votes of some clips: held out only where all of both are there."""
    clips = [corpus.clips[row] for row in rows]
    votes = ordered_votes(corpus.voice[rows], clips, run.draw, "votes saved")
    enough = max(2 * run.held, run.k + run.held) if run.held > 1 else 9
    judged = [labels[: run.held] if len(labels) >= enough else labels[:0] for labels in votes]
    fitted = [labels[len(other) : len(other) + run.k] for labels, other in zip(votes, judged, strict=True)]
    return counted(fitted), counted(judged)


def rows_of(corpus: Corpus, run: Run) -> Index:
    """All clips, or a seeded sample."""
    if run.size is None:
        return np.arange(len(corpus.clips))
    chance = generator(run.draw, "votes saved sample", run.size)
    return np.sort(chance.choice(len(corpus.clips), min(run.size, len(corpus.clips)), replace=False))


def folds_of(actors: Sequence[str]) -> dict[str, int]:
    """The published fold of each actor, from 0."""
    frame = pl.read_csv(FOLDS_FILE, schema_overrides={"actor": pl.String, "fold": pl.String})
    published = dict(frame.select("actor", "fold").iter_rows())
    refuse_lockbox(actors)
    return {actor: int(published[actor]) - 1 for actor in sorted(set(actors))}


def labels_of_run(corpus: Corpus, features: Floats, run: Run) -> Array:
    """The labels of every kind for the run's clips: kinds x clips x labels."""
    rows = rows_of(corpus, run)
    actors = corpus.actors[rows].tolist()
    folds = folds_of(actors)
    fold = np.array([folds[actor] for actor in actors], dtype=np.int64)
    votes = split_votes(corpus, rows, run)[0] if run.k else corpus.voice[rows]
    material = Material(LABELS, features[rows], votes, fold)
    fitted = cross_fit(
        material, HeadSettings(), rounds=run.rounds, seed=run.draw, relabel=relabelling(material, run.draw), threads=1
    )
    if not run.k:
        return fitted.shares[None]
    labels = [fused(corpus, features, AUTO, rows, votes, run.draw)]
    for shares in fitted.rounds:
        safe = np.maximum(shares, 1e-6)
        safe /= safe.sum(1, keepdims=True)
        labels += [shares, fuse_votes(corpus, rows, votes, run.draw, listener=(safe, folds))]
    return np.stack(labels)


class Curves:
    """Log losses of every kind of label by run, from what is kept."""

    def __init__(self, corpus: Corpus, results: Results) -> None:
        self.corpus, self.results, self.lines = corpus, results, results.lines()

    def draws(self, size: int | None, k: int, held: int, kind: str) -> list[Run]:
        """The runs that are done and have a kind of label; of a draw the run of fewest rounds."""
        needed = 2 if kind.endswith("2") else 1
        done: dict[int, Run] = {}
        for run in sorted(runs(), key=lambda run: run.rounds):
            if (run.size, run.k, run.held) == (size, k, held) and run.rounds >= needed and run.key in self.lines:
                done.setdefault(run.draw, run)
        return [done[draw] for draw in sorted(done)]

    def labels(self, run: Run, kind: str) -> Array:
        """The distributions of a kind, of the run's clips; every probability is at least 1e-6."""
        place = KINDS.index(kind) if run.k else 0
        shares = np.maximum(self.results.predictions(run.key)[place], 1e-6)
        scaled: Array = shares / shares.sum(1, keepdims=True)
        return scaled

    def losses(self, run: Run, kind: str) -> dict[str, float]:
        """Log loss a held-out vote of every actor."""
        rows = rows_of(self.corpus, run)
        held = split_votes(self.corpus, rows, run)[1]
        losses = -(held * np.log(self.labels(run, kind))).sum(1)
        return by_actor(losses, held.sum(1), self.corpus.actors[rows])

    def mean(self, size: int | None, k: int, held: int, kind: str) -> tuple[float, float]:
        """Log loss a held-out vote and JSD (base 2) over all clips, means of draws."""
        scores = []
        for run in self.draws(size, k, held, kind):
            rows = rows_of(self.corpus, run)
            votes, labels = split_votes(self.corpus, rows, run)[1], self.labels(run, kind)
            use = votes.any(1)
            loss = -(votes * np.log(labels)).sum() / votes.sum()
            scores.append((loss, jsd_base2(labels[use], shares_of(votes[use])).mean()))
        return (float(np.mean([a for a, _ in scores])), float(np.mean([b for _, b in scores])))

    def contrast(
        self, first: tuple[int, str], second: tuple[int, str], held: int = 4, actors: set[str] | None = None
    ) -> Contrast | None:
        """Of two pairs of (k, kind), all clips: first less second over the draws that both have."""
        mine, theirs = ({run.draw: run for run in self.draws(None, k, held, kind)} for k, kind in (first, second))
        both = sorted(set(mine) & set(theirs))
        if not both:
            return None
        sides = [
            [self.losses(losses_by_run[draw], kind) for draw in both]
            for losses_by_run, (_, kind) in ((mine, first), (theirs, second))
        ]
        if actors is not None:
            sides = [
                [{who: loss for who, loss in losses.items() if who in actors} for losses in side] for side in sides
            ]
        if len(set.intersection(*(set(losses) for side in sides for losses in side))) < 2:
            return None
        return contrast(sides[0], sides[1])


def worth(curve: Sequence[tuple[int, float]], loss: float) -> str:
    """How many human votes alone have this log loss, between the points of a falling curve."""
    for (k, high), (more, low) in pairwise(curve):
        if low <= loss <= high and high > low:
            return f"{k + (more - k) * (high - loss) / (high - low):.1f}"
    return f"more than {curve[-1][0]}" if loss < curve[-1][1] else f"less than {curve[0][0]}"


def curve_table(curves: Curves) -> list[str]:
    """Log loss and JSD of every kind of label."""
    rows = []
    for held, size, k in [(4, size, k) for size in _SIZES for k in range(1, 5)] + [(1, None, k) for k in _MANY]:
        draws = [len(curves.draws(size, k, held, kind)) for kind in ("fused 1", "fused 2")]
        if draws[0]:
            kinds = KINDS if draws[1] else KINDS[:3]
            means = [curves.mean(size, k, held, kind) for kind in kinds]
            cells = [f"{nll:.3f} / {jsd:.3f}" if held > 1 else f"{nll:.3f}" for nll, jsd in means]
            cells += [""] * (len(KINDS) - len(kinds))
            rows.append([str(size or "all"), str(k), str(held), f"{draws[0]}, {draws[1]}", *cells])
    return table(["clips", "k", "held out", "draws, 1 and 2 rounds", *KINDS], rows)


def saved_table(curves: Curves) -> list[str]:
    """What a listener saves: its fused labels against human votes alone, and in human votes."""
    curve = [(k, curves.mean(None, k, 4, "human")[0]) for k in range(1, 5) if curves.draws(None, k, 4, "human")]
    rows = []
    for k, kind, more in (
        (1, "fused 1", 4),
        (1, "fused 2", 4),
        (3, "fused 1", 4),
        (3, "fused 2", 4),
        (3, "fused 1", 3),
    ):
        difference = curves.contrast((k, kind), (more, "human"))
        if difference is not None:
            value = worth(curve, curves.mean(None, k, 4, kind)[0]) if len(curve) > 1 else ""
            rows.append([f"{kind} at k = {k}", f"human at k = {more}", shown(difference), difference.verdict, value])
    for k, more in ((1, 2), (2, 3), (3, 4)):
        for kind in ("human", "fused 1"):
            difference = curves.contrast((more, kind), (k, kind))
            if difference is not None:
                rows.append([f"{kind} at k = {more}", f"{kind} at k = {k}", shown(difference), difference.verdict, ""])
    curve = [(k, curves.mean(None, k, 1, "human")[0]) for k in _MANY if curves.draws(None, k, 1, "human")]
    for k in (1, 3):
        for more in _MANY:
            difference = curves.contrast((k, "fused 1"), (more, "human"), held=1) if more > k else None
            if difference is not None:
                names = [f"fused 1 at k = {k}, one held out", f"human at k = {more}, one held out"]
                value = worth(curve, curves.mean(None, k, 1, "fused 1")[0]) if len(curve) > 1 else ""
                rows.append([*names, shown(difference), difference.verdict, value])
    return table(["first", "second", "nats a vote (95 %, t)", "verdict", "first, in human votes"], rows)


def group_table(curves: Curves, people: pl.DataFrame) -> list[str]:
    """The gain by groups of actors; the goal is an upper end under the smallest difference of interest."""
    rows = []
    for column in ("gender", "age", "race", "ethnicity"):
        for value in sorted(people[column].drop_nulls().unique().to_list()):
            actors = set(people.filter(pl.col(column) == value)["speaker"]) & set(curves.corpus.actors.tolist())
            for k in (1, 3):
                difference = curves.contrast((k, "fused 1"), (k, "human"), actors=actors)
                if difference is None:
                    continue
                judged = (
                    "not judged"
                    if difference.actors < FEW_ACTORS
                    else str(difference.high < SMALLEST_DIFFERENCE).lower()
                )
                rows.append([f"{column}: {value}", str(difference.actors), str(k), shown(difference), judged])
    return table(["group", "actors", "k", "fused less human", "upper end under .01"], rows)


def anchors(curves: Curves) -> list[str]:
    """Priors, and shares to votes drawn from them: what the figures of this corpus are to be read against."""
    corpus = curves.corpus
    rows = []
    for draw in range(3):
        everyone = np.arange(len(corpus.clips))
        held = split_votes(corpus, everyone, Run(None, 1, 4, draw))[1]
        use = held.any(1)
        anchors_of = {
            "uniform": np.full_like(held, 1 / len(LABELS)),
            "class shares of the other actors": np.zeros_like(held),
        }
        for actor in np.unique(corpus.actors):
            here = corpus.actors == actor
            anchors_of["class shares of the other actors"][here] = shares_of(corpus.voice[~here].sum(0, keepdims=True))
        rows.append([
            number
            for shares in anchors_of.values()
            for number in (
                -(held * np.log(shares)).sum() / held.sum(), jsd_base2(shares[use], shares_of(held[use])).mean()
            )
        ])  # fmt: skip
        rows[-1].append(jsd_floor(shares_of(corpus.voice[use]), held[use].sum(1), seed=draw).mean())
    mean = np.mean(rows, axis=0)
    lines = [["uniform", *(f"{value:.3f}" for value in mean[:2])]]
    lines.append(["class shares of the other actors", *(f"{value:.3f}" for value in mean[2:4])])
    if curves.draws(None, 0, 4, "listener 1"):
        nll, jsd = curves.mean(None, 0, 4, "listener 1")
        lines.append(["encoder, trained on all votes of the other folds", f"{nll:.3f}", f"{jsd:.3f}"])
    lines.append(["shares of all votes of a clip, to four votes drawn from them", "", f"{mean[4]:.3f}"])
    return table(["label", "NLL", "JSD, base 2"], lines)


def picture(curves_of: Curves) -> Chart:
    """The learning curves of human votes alone and beside the listener, all clips."""
    ks = [k for k in range(1, 5) if curves_of.draws(None, k, 4, "fused 1")]
    lines = []
    for name, role, kind in (
        ("human votes alone", "human", "human"),
        ("with a listener trained on them", "fused", "fused 1"),
    ):
        losses = [curves_of.mean(None, k, 4, kind)[0] for k in ks]
        lines.append(Line(Series.of(name, role, losses), tuple(map(float, ks))))
    alt = "; ".join(
        f"{line.series.name}: " + ", ".join(f"{value.estimate:.3f} from {k:g}" for k, value in zip(
            line.at, line.series.values, strict=True)) for line in lines
    )  # fmt: skip
    one_vote = lines[1].series.values[0].estimate
    return charts.Curves(
        "votes_saved", "CREMA-D", "human votes a clip", "log loss of a held-out vote, nats", lines, alt=alt,
        references=[("one vote and the listener", "fused", one_vote)],
    )  # fmt: skip


def people_of(folder: Path) -> pl.DataFrame:
    """Gender, age band, race and ethnicity of every actor."""
    frame = pl.read_csv(folder / "VideoDemographics.csv")
    age = pl.when(pl.col("Age") < 30).then(pl.lit("20 to 29")).when(pl.col("Age") < 50).then(pl.lit("30 to 49"))
    return frame.select(
        speaker=pl.col("ActorID").cast(pl.String), gender="Sex", age=age.otherwise(pl.lit("50 and over")),
        race="Race", ethnicity="Ethnicity",
    )  # fmt: skip


def report(corpus: Corpus, results: Results, people: pl.DataFrame) -> list[str]:
    """All tables, and how much is missing."""
    curves = Curves(corpus, results)
    planned = list(runs())
    lines = [f"{sum(run.key in curves.lines for run in planned)} of {len(planned)} runs are done."]
    return [*lines, *curve_table(curves), *saved_table(curves), *group_table(curves, people), *anchors(curves)]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run", "report", "picture"))
    parser.add_argument("--keep", type=Path, required=True, help="Folder of results.")
    parser.add_argument("--model", help="Folder of the encoder.")
    parser.add_argument("--out", type=Path, help="Folder of the picture.")
    parser.add_argument("--runs", type=int, help="Stop after this many runs.")
    given = parser.parse_args(arguments)
    folder = Path(os.environ["ALM_PROXIES_TEST_DATA"]) / "crema_d"
    results = Results(given.keep / "votes_saved")
    try:
        corpus = read_corpus(folder)
        if given.command == "report":
            print("\n".join(report(corpus, results, people_of(folder))))
            return
        if given.command == "picture":
            print(*picture(Curves(corpus, results)).save(given.out))
            return
        settings = ListenSettings(recipe="encoder", model=given.model, threads=1)
        features = hear(corpus.utterances, settings, given.keep / "features", quiet=False)[0].rows
        with results.alone():
            done = results.lines()
            left = [run for run in runs() if run.key not in done]
            for run in left[: given.runs]:
                started = time.perf_counter()
                labels = labels_of_run(corpus, features, run)
                seconds = round(time.perf_counter() - started, 2)
                results.add({"key": run.key, "seconds": seconds}, labels)
                print(f"{run.key} {seconds} s", file=sys.stderr, flush=True)
    except AlmProxiesError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
