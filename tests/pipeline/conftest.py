"""A place with every file that a pipeline may name."""

from __future__ import annotations

import shutil
from pathlib import Path

import polars as pl
import pytest
from any_folder import eight_clips
from keys_in_files import ANNOTATOR, LABELS, PROMPT, card, toml

from alm_proxies.tables import Labels, Utterances, Votes


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one of everything that settings can name; *_2 has other content."""
    folder = tmp_path_factory.mktemp("keys")
    ids = [f"mine/{number}" for number in range(4)]
    Utterances.of(pl.DataFrame({"utterance_id": ids, "corpus": "mine"})).write(folder / "utterances.parquet")
    frame = pl.DataFrame({"utterance_id": ids, "annotator": "r", "label": ["happy", "sad", "sad", "happy"]})
    votes = Votes.of(frame, taxonomy=LABELS)
    for name, labels in (("labels", [0.5, 0.5, 0, 0, 0, 0]), ("labels_2", [0, 0.5, 0.5, 0, 0, 0])):
        shares = {f"p_{label}": share for label, share in zip(LABELS, labels, strict=True)}
        frame = pl.DataFrame({"utterance_id": ids}).with_columns(**{key: pl.lit(x) for key, x in shares.items()})
        Labels.of(frame, taxonomy=LABELS).write(folder / f"{name}.parquet")
    votes.write(folder / "votes.parquet")
    for number, name in enumerate(("", "_2")):
        (folder / f"corpus{name}").mkdir()
        shutil.copy(folder / "utterances.parquet", folder / f"corpus{name}")
        votes.write(folder / f"corpus{name}" / "votes.parquet")
        if number:
            Votes.of(votes.frame.head(2), about=votes.about).write(folder / "corpus_2" / "votes.parquet")
        header = "fileName,A,D,F,H,N,S,numResponses,agreement,emoVote,meanEmoResp,meanAcousticResp"
        rows = [f'1001_DFA_ANG_XX,{8 - number},{number},0,0,0,0,8,1,A,"50","50"']
        (folder / f"crema{name}").mkdir()
        (folder / f"crema{name}" / "tabulatedVotes.csv").write_text("\n".join([header, *rows]))
        (folder / f"table{name}.csv").write_text(f"utterance_id,annotator,label\na,r{number},happy\n")
        (folder / f"folds{name}.csv").write_text(f"speaker,fold\ns,{number}\n")
        (folder / f"splits{name}.csv").write_text(f"speaker,split\ns,{('train', 'test')[number]}\n")
        (folder / f"sounds{name}").mkdir()
        (folder / f"sounds{name}" / f"a{name}.wav").write_bytes(b"RIFF")
        (folder / f"model{name}").mkdir()
        (folder / f"model{name}" / "weights.bin").write_bytes(bytes([number]) * 9)
        (folder / f"cards{name}").mkdir()
        (folder / f"cards{name}" / "mine.md").write_text(card(licence=f"CC{number}"))
        (folder / f"prompt{name}.toml").write_text(toml(PROMPT | {"before": f"Listen {number}."}))
        (folder / f"annotator{name}.toml").write_text(toml(ANNOTATOR | {"model": f"m{number}"}))
    return folder


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A pipeline of eight clips, in its folder: see any_folder."""
    return eight_clips(tmp_path)
