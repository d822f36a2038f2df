from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from made_predictions import LABELS, Tables

from alm_proxies.tables import Utterances, Votes


@pytest.fixture(scope="module")
def tables() -> Tables:
    """600 utterances of 30 speakers; those of the last 15 are the test, all eight votes held out."""
    rng = np.random.default_rng(2)
    truth = rng.dirichlet(np.array([0.5, 0.4, 1.2, 0.7]), 600)
    ids = [f"made/u{number:03d}" for number in range(600)]
    speakers = np.arange(600) // 20
    rows = []
    for place, name in enumerate(ids):
        held = bool(speakers[place] >= 15)
        for draw, label in enumerate(rng.choice(LABELS, 8 if held else 3, p=truth[place] / truth[place].sum())):
            rows.append({"utterance_id": name, "annotator": f"made/r{draw}", "label": label, "held_out": held})
    about = pl.DataFrame(
        {
            "utterance_id": ids,
            "corpus": "made",
            "speaker": [f"made/s{speaker}" for speaker in speakers],
            "gender": np.where(speakers % 2, "female", "male"),
        }
    )
    return truth, ids, Votes.of(pl.DataFrame(rows), taxonomy=LABELS), Utterances.of(about)
