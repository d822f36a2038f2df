from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.audio.clip import open_clip
from alm_proxies.errors import EngineError, SettingsError

LABELS = ("angry", "happy", "sad")


def written(folder: Path, elicit: str, **serve: str) -> Path:
    table = pl.DataFrame(
        {"utterance_id": ["clip 0", "clip 1"], "p_angry": [0.8, 0.0], "p_happy": [0.2, 0.0], "p_sad": [0.0, 1.0]}
    )
    table.write_parquet(folder / "answers.parquet")
    more = "".join(f", {key} = {value}" for key, value in serve.items())
    (folder / "a.toml").write_text(
        f'name = "a"\nengine = "scripted"\nmodel = "m"\nelicit = "{elicit}"\ncross = {{ label_orders = 3 }}\n'
        f'votes = {3 if elicit == "score" else 300}\nserve = {{ answers = "{folder / "answers.parquet"}"{more} }}\n'
    )
    return folder / "a.toml"


@pytest.mark.parametrize("elicit", ["score", "sample"])
def test_an_annotator_gives_label_shares_of_clips_at_hand(tmp_path: Path, elicit: str) -> None:
    soundfile.write(tmp_path / "x.wav", 0.2 * np.sin(np.arange(8000) / 9), 16_000)
    annotator = Annotator.read(written(tmp_path, elicit), taxonomy=LABELS)
    shares = annotator.distribution([tmp_path / "x.wav", open_clip(tmp_path / "x.wav")], seed=5)
    assert shares.sum(axis=1) == pytest.approx([1.0, 1.0])
    assert shares == pytest.approx(
        np.array([[0.8, 0.2, 0.0], [0.0, 0.0, 1.0]]), abs=1e-6 if elicit == "score" else 0.08
    )


def test_a_failing_engine_and_a_missing_taxonomy_are_said(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", 0.2 * np.sin(np.arange(8000) / 9), 16_000)
    path = written(tmp_path, "sample", faults="{ server_error = 1.0 }")
    with pytest.raises(SettingsError, match="has no taxonomy"):
        Annotator.read(path).distribution([tmp_path / "x.wav"])
    with pytest.raises(EngineError, match="server_error"):
        Annotator.read(path, taxonomy=LABELS).distribution([tmp_path / "x.wav"])
