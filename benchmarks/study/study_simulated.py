"""The study on simulated speech, where the true distribution of every clip is known: docs/study_crema_d.md, last part.

Actors, folds, targets, heads and stops are those of the study on CREMA-D. In place of its recordings stand 3,000
simulated clips of 36 speakers, measured for prosody, with ten votes each; in place of raters who saw the face stands a
simulated proxy that casts ten votes and confuses some labels. Models are scored on the truth.

    python benchmarks/study/study_simulated.py run --keep FOLDER        # about two hours on one core; resumes
    python benchmarks/study/study_simulated.py report --keep FOLDER     # every table, as Markdown
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from study_cells import Study, run_cell
from study_design import AUDIO_VISUAL, AUTO, HALF, HUMAN, LISTENER, POOLED, PRIMARY, SEEDS, Arm, Cell, blocks
from study_report import shown, table
from study_results import Results
from study_statistics import Contrast, by_actor, contrast, holm
from study_targets import shares_of
from study_votes import LABELS, Array, Corpus, first_votes, proxy_votes

from alm_proxies.ballots import ballots_of
from alm_proxies.errors import AlmProxiesError
from alm_proxies.measures.divergence import entropy_nats, jsd_base2
from alm_proxies.seeds import generator
from alm_proxies.stages.listen.hear import hear
from alm_proxies.stages.listen.settings import ListenSettings
from alm_proxies.stages.simulate.stage import SimulateSettings, simulate

SETTINGS = SimulateSettings(utterances=3000, votes=(4, 4), dense=6, speakers=36, seed=7)
PROXY_VOTES = 10
SHARPER = 2.0
MOVED = {"angry": "disgust", "disgust": "angry", "fear": "sad", "happy": "neutral", "neutral": "sad", "sad": "neutral"}
"""Where the simulated proxy moves 30 % of a label."""


def simulated(folder: Path) -> tuple[Corpus, Array]:
    """The corpus in the study's shape, spoken once into a folder, and the truth: clips x labels."""
    corpus = simulate(folder, SETTINGS)
    frame = corpus.utterances.frame
    truth = corpus.truth.frame.select(f"p_{label}" for label in LABELS).to_numpy()
    ids = frame["utterance_id"]
    voice = ballots_of(corpus.votes, ids, "human").counts() + ballots_of(corpus.votes, ids, "held_out").counts()
    moved = truth * 0.7
    for place, label in enumerate(LABELS):
        moved[:, LABELS.index(MOVED[label])] += 0.3 * truth[:, place]
    sharp = moved**SHARPER
    proxy = generator(SETTINGS.seed, "study proxy").multinomial(PROXY_VOTES, sharp / sharp.sum(1, keepdims=True))
    clips = tuple(name.partition("/")[2] for name in ids)
    speakers = np.array(frame["speaker"].to_list())
    counts = voice, np.zeros_like(voice), proxy.astype(np.float64)
    return Corpus(clips, speakers, *counts, corpus.utterances, name=SETTINGS.corpus), truth


def planned() -> Iterator[Cell]:
    """Three replicates of every arm, the base first."""
    base = [arm for arm in next(iter(blocks().values())) if arm.proxy != "face"]
    arms = [*base, *(replace(arm, k=1) for arm in (HUMAN, AUTO, LISTENER, POOLED, AUDIO_VISUAL)), HALF]
    arms += [arm for arm in blocks()["dose"] if arm.damage == "shares" and arm.dose in (0.5, 1.0)]
    arms += [arm for arm in (*blocks()["balance"], *blocks()["curricula"]) if arm.targets == "human"]
    yield from (Cell(arm, seed, seed) for seed in SEEDS for arm in dict.fromkeys(arms))


class Truth:
    """Scores of cells against the truth."""

    def __init__(self, corpus: Corpus, truth: Array, results: Results) -> None:
        self.corpus, self.truth, self.results, self.lines = corpus, truth, results, results.lines()

    def done(self, *arms: Arm) -> list[int]:
        """The seeds with which all of these arms were run."""
        return [seed for seed in SEEDS if all(Cell(arm, seed, seed).key in self.lines for arm in arms)]

    def predicted(self, arm: Arm, seed: int) -> Array:
        """A distribution for every clip, by the fold that scores it."""
        shares: Array = np.maximum(self.results.predictions(Cell(arm, seed, seed).key), 1e-6)
        return shares

    def excess(self, arm: Arm, seed: int) -> Array:
        """The divergence of the truth from the prediction in nats: what the prediction loses a vote."""
        losses: Array = (self.truth * np.log(np.maximum(self.truth, 1e-12) / self.predicted(arm, seed))).sum(1)
        return losses

    def contrast(self, first: Arm, second: Arm, where: np.ndarray | None = None) -> Contrast | None:
        """First less second over speakers."""
        seeds = self.done(first, second)
        if not seeds:
            return None
        weights = np.ones(len(self.truth)) if where is None else where.astype(np.float64)
        losses = [
            [by_actor(self.excess(arm, seed) * weights, weights, self.corpus.actors) for seed in seeds]
            for arm in (first, second)
        ]
        return contrast(*losses)

    def scores(self, arm: Arm) -> list[str]:
        """Mean divergence from the truth, JSD to the truth, and JSD to targets of the arm's own kind."""
        rows = []
        for seed in self.done(arm):
            p = self.predicted(arm, seed)
            own = first_votes(self.corpus, arm.k, seed)
            if arm.proxy == "audio_visual":
                own = own + proxy_votes(self.corpus, arm, seed)
            counted = arm.targets in ("human", "pooled", "plurality")
            own_jsd = jsd_base2(p, shares_of(own)).mean() if counted else np.nan
            rows.append((self.excess(arm, seed).mean(), jsd_base2(p, self.truth).mean(), own_jsd))
        return [f"{value:.3f}" if np.isfinite(value) else "" for value in np.mean(rows, axis=0)]


def report(truth: Truth) -> list[str]:
    """All tables."""
    arms = [arm for arm in dict.fromkeys(cell.arm for cell in planned()) if truth.done(arm)]
    heads = ["arm", "replicates", "nats above the truth", "JSD to the truth, base 2", "JSD on its own kind of targets"]
    lines = table(heads, [[arm.name, str(len(truth.done(arm))), *truth.scores(arm)] for arm in arms])
    primary = [(name, a, b, difference) for name, a, b in PRIMARY if (difference := truth.contrast(a, b)) is not None]
    adjusted = holm([difference.p_value for *_, difference in primary])
    lines += table(
        ["primary contrast", "arms", "nats a vote (95 %, t)", "p, Holm", "verdict"],
        [
            [name, f"{a.name} - {b.name}", shown(difference), f"{p:.2g}", difference.verdict]
            for (name, a, b, difference), p in zip(primary, adjusted, strict=True)
        ],
    )
    others = [(arm, replace(HUMAN, k=arm.k)) for arm in arms if arm not in (HUMAN, replace(HUMAN, k=1))]
    others = [pair for pair in others if set(pair) not in [{a, b} for _, a, b in PRIMARY]]
    pairs = [(a, b, difference) for a, b in others if (difference := truth.contrast(a, b)) is not None]
    heads = ["exploratory contrast", "nats a vote (95 %, t)", "verdict"]
    lines += table(
        heads, [[f"{a.name} - {b.name}", shown(difference), difference.verdict] for a, b, difference in pairs]
    )
    third = np.argsort(np.argsort(entropy_nats(truth.truth), kind="stable"), kind="stable") * 3 // len(truth.truth)
    strata = []
    for a, b in ((POOLED, HUMAN), (AUTO, HUMAN), (LISTENER, HUMAN), (AUDIO_VISUAL, HUMAN)):
        cells = [truth.contrast(a, b, third == level) for level in range(3)]
        if all(cell is not None for cell in cells):
            strata.append([f"{a.name} - {b.name}", *(shown(cell) for cell in cells if cell is not None)])
    return lines + table(["arms, by thirds of the truth's entropy", "low", "medium", "high"], strata)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run", "report"))
    parser.add_argument("--keep", type=Path, required=True, help="Folder of the corpus, features, targets and results.")
    given = parser.parse_args(arguments)
    results = Results(given.keep)
    try:
        corpus, truth = simulated(given.keep / "corpus")
        if given.command == "report":
            print("\n".join(report(Truth(corpus, truth, results))))
            return
        settings = ListenSettings(recipe="features", threads=1)
        study = Study(
            corpus, hear(corpus.utterances, settings, given.keep / "features", quiet=False)[0].rows, given.keep
        )
        with results.alone():
            done = results.lines()
            for cell in planned():
                if cell.key not in done:
                    line, predictions = run_cell(study, cell)
                    results.add(line, predictions)
                    print(f"{cell.key} {line['seconds']} s", file=sys.stderr, flush=True)
    except AlmProxiesError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
