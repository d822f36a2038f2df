"""How much of what the crowd hears a logistic regression on measured prosody can tell, on speakers it never heard.

    python benchmarks/simulate/regression.py [--utterances 2000] [--seeds 0 1 2] [--crowd 0]

Prosody is measured from the wavs and taken relative to the speaker's own mean. Printed: cross-entropy (nats) of the
true distributions on test speakers with (a) the class prior, (b) the regression, (c) themselves, and the share of the
gap (a - c) that (b) closes; fitted to 3-5 votes an utterance, and to the true distributions.
"""

from __future__ import annotations

import argparse
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import librosa
import numpy as np
import polars as pl
import soundfile
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from alm_proxies.stages.simulate.cues import LABELS
from alm_proxies.stages.simulate.stage import Corpus, SimulateSettings, simulate


def prosody(path: Path) -> np.ndarray:
    """Pitch level, spread, slope and unsteadiness, level and its spread, syllable pace, tilt, breath, duration."""
    sound, rate = soundfile.read(path, dtype="float32")
    hop, frame = 160, 1024
    pitch = 12 * np.log2(librosa.yin(sound, fmin=65, fmax=500, sr=rate, frame_length=frame, hop_length=hop) / 100)
    power = np.abs(librosa.stft(sound, n_fft=frame, hop_length=hop)) ** 2
    level = 10 * np.log10(librosa.feature.rms(y=sound, frame_length=400, hop_length=hop)[0] ** 2 + 1e-12)
    n = min(len(pitch), power.shape[1], len(level))
    pitch, power, level = pitch[:n], power[:, :n], level[:n]
    active = level > level.max() - 30
    low = power[1:16].sum(0)
    high = power[128:].sum(0)
    steady = np.abs(np.gradient(pitch)) < 0.8
    voiced = active & (low > high) & steady
    times = np.linspace(0, 1, n)
    slope, height = np.polyfit(times[voiced], pitch[voiced], 1)
    rest = pitch[voiced] - slope * times[voiced] - height
    smooth = np.convolve(level, np.hanning(9) / np.hanning(9).sum(), mode="same")
    peaks = (smooth[1:-1] > smooth[:-2]) & (smooth[1:-1] >= smooth[2:]) & active[1:-1]
    frequency = np.arange(power.shape[0]) * rate / frame
    mean = 10 * np.log10(power[:, voiced].mean(1) + 1e-12)
    band = (frequency > 400) & (frequency < 6000)
    tilt = np.polyfit(np.log2(frequency[band]), mean[band], 1)[0]
    above = 10 * np.log10(power[256:, voiced].mean() / power[1:64, voiced].mean())
    wobble = np.log(np.abs(np.diff(pitch))[voiced[1:] & voiced[:-1]].mean() + 1e-3)
    flatness = np.log(librosa.feature.spectral_flatness(S=power[:, voiced]).mean() + 1e-9)
    pace = np.log2(peaks.sum() / max(0.2, active.sum() * hop / rate))
    loud = 10 * np.log10(np.mean(10 ** (level[active] / 10)))
    melody = [np.median(pitch[voiced]), np.log2(rest.std() + 0.1), slope, wobble]
    return np.array([*melody, loud, level[active].std(), pace, tilt, above, flatness, active.mean()])


def relative(features: np.ndarray, speakers: list[str]) -> np.ndarray:
    """Features less their speaker's mean."""
    frame = pl.DataFrame(features).with_columns(speaker=pl.Series(speakers))
    return frame.select(pl.exclude("speaker") - pl.exclude("speaker").mean().over("speaker")).to_numpy()


def fitted(x: np.ndarray, targets: np.ndarray, penalty: float = 1.0) -> LogisticRegression:
    """A logistic regression fitted to distributions: each row once for every label, weighted by its share."""
    rows, labels = targets.shape
    return LogisticRegression(C=penalty, max_iter=500).fit(
        np.repeat(x, labels, axis=0), np.tile(np.arange(labels), rows), sample_weight=targets.ravel() + 1e-9
    )


def cross_entropy(truth: np.ndarray, guess: np.ndarray) -> float:
    return float(-(truth * np.log(np.maximum(guess, 1e-12))).sum(1).mean())


def report(corpus: Corpus, folder: Path) -> tuple[float, float]:
    """Print one corpus's figures; the shares of the gap closed from votes and from truth."""
    frame = corpus.utterances.frame
    with ThreadPoolExecutor() as pool:
        features = np.stack(list(pool.map(prosody, [folder / audio for audio in frame["audio"]])))
    x = relative(features, frame["speaker"].to_list())
    train = (frame["split"] == "train").to_numpy()
    test = (frame["split"] == "test").to_numpy()
    x = StandardScaler().fit(x[train]).transform(x)
    truth = corpus.truth.distributions()
    sparse = corpus.votes.frame.filter(~pl.col("held_out"))
    counts = sparse.group_by("utterance_id").agg([(pl.col("label") == label).mean().alias(label) for label in LABELS])
    voted = frame.select("utterance_id").join(counts, on="utterance_id", how="left").select(LABELS).to_numpy()
    prior = np.tile(voted[train].mean(0), (test.sum(), 1))
    before, floor = cross_entropy(truth[test], prior), cross_entropy(truth[test], truth[test])
    closed = []
    for name, target in (("votes", voted), ("truth", truth)):
        guess = fitted(x[train], target[train]).predict_proba(x[test])
        after = cross_entropy(truth[test], guess)
        closed.append((before - after) / (before - floor))
        print(f"  fitted to {name}: prior {before:.3f}  regression {after:.3f}  truth {floor:.3f}  {closed[-1]:.0%}")
    return closed[0], closed[1]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--utterances", type=int, default=2000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--crowd", type=int, default=0)
    options = parser.parse_args()
    shares = []
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as name:
            settings = SimulateSettings(utterances=options.utterances, seed=seed, crowd=options.crowd)
            corpus = simulate(Path(name), settings)
            print(f"seed {seed}, crowd {options.crowd}, {options.utterances} utterances, speakers apart")
            shares.append(report(corpus, Path(name)))
    votes, truth = np.median(np.array(shares), axis=0)
    print(f"median share of the gap closed: {votes:.0%} from votes, {truth:.0%} from the truth")


if __name__ == "__main__":
    main()
