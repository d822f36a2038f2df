"""How long balancing a million utterances and exporting 250,000 take: python benchmarks/balance/speed.py

Weights: soft shares of 9 labels within 3 levels of ambiguity. Exports: recordings are referred to, not copied, in every
format that does not have to hold them; one tiny recording stands for all, so that reading headers is counted.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
import soundfile

from alm_proxies.plugins import plugins
from alm_proxies.stages.balance.settings import BalanceSettings
from alm_proxies.stages.balance.stage import balance
from alm_proxies.stages.export.settings import ExportSettings
from alm_proxies.stages.export.stage import export
from alm_proxies.tables import About, Labels, Utterances

LABELS = tuple(f"label{number}" for number in range(9))


def corpus(count: int, root: Path) -> tuple[Labels, Utterances]:
    """Made-up labels of a skewed corpus, and their utterances."""
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.array([4, 2, 1.5, 1, 1, 0.7, 0.5, 0.4, 0.4]) * 0.35, count)
    ids = [f"sim/u{number:07d}" for number in range(count)]
    labels = pl.DataFrame({"utterance_id": ids, **{f"p_{name}": shares[:, k] for k, name in enumerate(LABELS)}})
    speakers = rng.integers(0, 500, count)
    about = pl.DataFrame(
        {
            "utterance_id": ids, "corpus": "sim", "audio": "one.wav", "duration": 1.0,
            "speaker": [f"sim/{speaker}" for speaker in speakers], "gender": np.where(speakers % 2, "female", "male"),
            "split": np.where(speakers < 400, "train", "test"),
        }
    )  # fmt: skip
    soundfile.write(root / "one.wav", np.full(1600, 0.1), 16_000)
    return Labels.of(labels, taxonomy=LABELS), Utterances.of(about, about=About(roots={"sim": str(root)}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=int, default=1_000_000)
    parser.add_argument("--rows", type=int, default=250_000)
    sizes = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        labels, utterances = corpus(sizes.weights, root)
        for within in (False, True):
            began = time.perf_counter()
            made = balance(labels, utterances, root / "balanced", BalanceSettings(within=within))
            seconds = time.perf_counter() - began
            size = made.metrics["effective_size"] / made.metrics["utterances"]
            met = "met" if made.metrics["met"] else f"worst {made.metrics['worst_error']:.4f}"
            print(f"balance {sizes.weights:,} within={within}: {seconds:.1f} s, {met}, effective size {size:.1%}")
        labels, utterances = corpus(sizes.rows, root)
        for place, found in enumerate(plugins("exports").values()):
            kind = found.load()
            if kind.embeds or kind.beside:
                continue
            began = time.perf_counter()
            export(labels, utterances, root / f"export{place}", ExportSettings(format=kind.name))
            print(f"export {kind.name}: {time.perf_counter() - began:.1f} s")


if __name__ == "__main__":
    main()
