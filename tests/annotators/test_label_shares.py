from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile
from wording import Wording

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.audio.clip import open_clip
from alm_proxies.errors import EngineError, InputError, SettingsError

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
def test_an_annotator_gives_label_shares_of_clips(tmp_path: Path, elicit: str) -> None:
    soundfile.write(tmp_path / "x.wav", 0.2 * np.sin(np.arange(8000) / 9), 16_000)
    annotator = Annotator.read(written(tmp_path, elicit), taxonomy=LABELS)
    shares = annotator.distribution([tmp_path / "x.wav", open_clip(tmp_path / "x.wav")], seed=5)
    assert shares.sum(axis=1) == pytest.approx([1.0, 1.0])
    assert shares == pytest.approx(
        np.array([[0.8, 0.2, 0.0], [0.0, 0.0, 1.0]]), abs=1e-6 if elicit == "score" else 0.08
    )


def corrected(folder: Path, silence: tuple[float, float, float]) -> Path:
    """A scorer with a bias towards some labels: its scores of a clip are the truth times the bias."""
    truth, liking = np.array([0.5, 0.3, 0.2]), np.array(silence)
    heard = truth * liking / (truth @ liking)
    rows = {"clip 0": heard, "silence": liking}
    columns = {f"p_{label}": [row[n] for row in rows.values()] for n, label in enumerate(LABELS)}
    pl.DataFrame({"utterance_id": list(rows), **columns}).write_parquet(folder / "answers.parquet")
    text = 'name = "a"\nengine = "scripted"\nmodel = "m"\nelicit = "score"\ncross = { label_orders = 2 }\n'
    (folder / "a.toml").write_text(f'{text}content_free = true\nserve = {{ answers = "{folder}/answers.parquet" }}\n')
    return folder / "a.toml"


def test_the_scores_of_silence_are_divided_out_if_the_file_asks_for_it(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", 0.2 * np.sin(np.arange(8000) / 9), 16_000)
    path = corrected(tmp_path, (0.7, 0.2, 0.1))
    annotator = Annotator.read(path, taxonomy=LABELS)
    assert annotator.distribution([tmp_path / "x.wav"]) == pytest.approx(np.array([[0.5, 0.3, 0.2]]))
    assert annotator.estimand.endswith("divided by those that silence gets")
    path.write_text(path.read_text().replace("content_free = true", ""))
    plain = Annotator.read(path, taxonomy=LABELS)
    assert plain.distribution([tmp_path / "x.wav"])[0, 0] > 0.75
    assert plain.digest != annotator.digest


def test_a_label_without_content_free_probability_and_a_prompt_with_context_cannot_be_corrected(
    tmp_path: Path, wording: Wording
) -> None:
    soundfile.write(tmp_path / "x.wav", 0.2 * np.sin(np.arange(8000) / 9), 16_000)
    path = corrected(tmp_path, (0.8, 0.2, 0.0))
    with wording.refused(InputError):
        Annotator.read(path, taxonomy=LABELS).distribution([tmp_path / "x.wav"])
    text = path.read_text()
    path.write_text(text + 'prompt = "reference"\n')
    with wording.refused(SettingsError):
        Annotator.read(path, taxonomy=LABELS)
    path.write_text(text.replace('"score"', '"sample"'))
    with wording.refused(SettingsError):
        Annotator.read(path, taxonomy=LABELS)


def test_a_failing_engine_and_a_missing_taxonomy_are_refused(tmp_path: Path, wording: Wording) -> None:
    soundfile.write(tmp_path / "x.wav", 0.2 * np.sin(np.arange(8000) / 9), 16_000)
    path = written(tmp_path, "sample", faults="{ server_error = 1.0 }")
    with wording.refused(SettingsError):
        Annotator.read(path).distribution([tmp_path / "x.wav"])
    with wording.refused(EngineError):
        Annotator.read(path, taxonomy=LABELS).distribution([tmp_path / "x.wav"])
