from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile

from alm_proxies import cache
from alm_proxies.annotators.evidence import FEATURE_WORDS, evidence_of, in_words
from alm_proxies.audio import features


def test_scores_are_described_by_degrees_and_unknown_ones_left_out() -> None:
    scores: list[float | None] = [None] * len(FEATURE_WORDS)
    for place, score in enumerate([0.49, 0.5, -1.0, -2.0]):
        scores[place] = score
    assert in_words(scores).splitlines() == [
        f"- {FEATURE_WORDS[0].name}: about as usual",
        f"- {FEATURE_WORDS[1].name}: slightly {FEATURE_WORDS[1].more}",
        f"- {FEATURE_WORDS[2].name}: {FEATURE_WORDS[2].less}",
        f"- {FEATURE_WORDS[3].name}: much {FEATURE_WORDS[3].less}",
    ]
    assert in_words([None] * len(FEATURE_WORDS)) == ""


def test_what_is_usual_is_the_speakers_own_and_is_measured_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = np.arange(16_000) / 16_000
    pitches = {"low": [100, 104, 96, 102, 98, 140], "high": [200, 208, 192, 204, 196, 140]}
    rows = []
    for speaker, tones in pitches.items():
        for number, tone in enumerate(tones):
            path = tmp_path / f"{speaker}{number}.wav"
            voice = sum(np.sin(2 * np.pi * tone * k * time) / k for k in range(1, 9))
            soundfile.write(path, 0.1 * voice, 16_000)
            rows.append((f"{speaker}{number}", "toy", str(path), None, None, True, speaker))
    columns = {
        "utterance_id": pl.String,
        "corpus": pl.String,
        "path": pl.String,
        "start": pl.Float64,
        "end": pl.Float64,
        "keep": pl.Boolean,
        "speaker": pl.String,
    }
    frame = pl.DataFrame(rows, schema=columns, orient="row")
    evidence = evidence_of(frame).by_utterance
    assert "pitch: much higher" in evidence["low5"] or "pitch: higher" in evidence["low5"]
    assert "pitch: much lower" in evidence["high5"] or "pitch: lower" in evidence["high5"]
    with monkeypatch.context() as patch:
        patch.setattr(features, "measure", None)
        assert evidence_of(frame).by_utterance == evidence, "what was measured is in the cache"
    private = frame.with_columns(keep=pl.lit(value=False))
    cache.clear()
    assert evidence_of(private, tmp_path / "own").by_utterance == evidence
    assert not any(kept.files for kept in cache.contents())
    assert list((tmp_path / "own").rglob("*.parquet"))
