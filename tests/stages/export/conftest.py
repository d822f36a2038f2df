from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import soundfile

from alm_proxies.tables import About, Labels, Utterances, Votes

LABELS = ("angry", "happy", "neutral", "sad")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Labels, Utterances, Votes]:
    """Thirty short recordings of an open corpus in a folder with a space and an umlaut, one item with a tie."""
    root = tmp_path_factory.mktemp("Aufnahmen für Tests")
    rng = np.random.default_rng(4)
    ids, audio = [], []
    for number in range(30):
        name = f"{1001 + number // 3}_süß {number:02d}.wav"
        soundfile.write(root / name, 0.1 * rng.standard_normal(4_000 + 200 * number), 16_000)
        ids.append(f"sim/{name}")
        audio.append(name)
    shares = rng.dirichlet(np.ones(4), 30)
    shares[7] = [0.5, 0.5, 0.0, 0.0]
    speakers = np.arange(30) // 3
    split = np.where(speakers < 6, "train", np.where(speakers < 8, "development", "test"))
    labels = Labels.of(
        pl.DataFrame(
            {
                "utterance_id": ids,
                **{f"p_{name}": shares[:, k] for k, name in enumerate(LABELS)},
                "concentration": rng.uniform(2, 9, 30),
                "weight": rng.uniform(0.5, 2.0, 30),
                **{name: rng.uniform(0, 1, 30) for name in ("valence", "arousal", "dominance")},
            }
        ),
        taxonomy=LABELS,
    )
    about = pl.DataFrame(
        {
            "utterance_id": ids,
            "corpus": "sim",
            "audio": audio,
            "speaker": [f"sim/{1001 + speaker}" for speaker in speakers],
            "gender": np.where(speakers % 2, "female", "male"),
            "language": "en",
            "transcript": [f'she said "{number}", twice' for number in range(30)],
            "split": split,
        }
    )
    utterances = Utterances.of(about, about=About(roots={"sim": str(root)}))
    votes = Votes.of(
        pl.DataFrame({"utterance_id": [name for name in ids for _ in range(3)], "annotator": ["a", "b", "c"] * 30,
                      "label": rng.choice(LABELS, 90)}),
        taxonomy=LABELS,
    )  # fmt: skip
    return labels, utterances, votes
