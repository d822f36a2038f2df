"""A small corpus of tones by several speakers with human votes, and tiny encoders of real classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import soundfile
import torch
import transformers as tf

from alm_proxies.about import About
from alm_proxies.tables import Labels, Utterances, Votes
from alm_proxies.training.settings import TrainSettings

LABELS = ("angry", "neutral", "sad")
HERTZ = {"angry": 2400.0, "neutral": 900.0, "sad": 250.0}
RATERS = ("tones/a", "tones/b", "tones/c")


def small_corpus(folder: Path, *, speakers: int = 8, clips: int = 6) -> tuple[Utterances, Votes, Labels]:
    """Tones in noise, one pitch a label; two of three raters hear the label, the third hears the next one."""
    chance = np.random.default_rng(0)
    (folder / "wav").mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    votes: list[dict[str, Any]] = []
    for number in range(speakers * clips):
        place = number % 3
        label = LABELS[place]
        seconds = float(chance.uniform(0.4, 0.9))
        time = np.arange(int(seconds * 16_000)) / 16_000
        tone = 0.2 * np.sin(2 * np.pi * HERTZ[label] * chance.uniform(0.95, 1.05) * time)
        soundfile.write(folder / f"wav/{number:03d}.wav", tone + 0.005 * chance.standard_normal(time.size), 16_000)
        name = f"tones/{number:03d}"
        speaker = number // clips
        rows.append(
            {
                "utterance_id": name,
                "corpus": "tones",
                "audio": f"wav/{number:03d}.wav",
                "speaker": f"tones/s{speaker}",
                "split": "development" if speaker >= speakers - 2 else "train",
            }
        )
        heard = (label, label, LABELS[(place + 1) % 3])
        votes += [
            {"utterance_id": name, "annotator": rater, "label": vote, "arousal": 0.2 + 0.3 * place}
            for rater, vote in zip(RATERS, heard, strict=True)
        ]
    about = About(taxonomy=LABELS, roots={"tones": str(folder)})
    utterances = Utterances.of(pl.DataFrame(rows), about=about)
    frame = pl.DataFrame(votes)
    shares = frame.group_by("utterance_id").agg(
        *((pl.col("label") == label).mean().alias(f"p_{label}") for label in LABELS),
        arousal=pl.col("arousal").mean(),
        concentration=pl.lit(3.0),
    )
    return utterances, Votes.of(frame, about=about), Labels.of(shares.sort("utterance_id"), about=about)


def tiny_encoder(folder: Path, kind: str = "wav2vec2") -> Path:
    """A random encoder of a real class, small enough to train in seconds."""
    torch.manual_seed(0)
    if kind == "whisper":
        sizes = {"d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 64}
        ids = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 0)
        config = tf.WhisperConfig(**sizes, **ids, decoder_layers=0, decoder_attention_heads=2, vocab_size=8)
        tf.WhisperModel(config).save_pretrained(folder)
        tf.WhisperFeatureExtractor().save_pretrained(folder)
        return folder
    waves = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
        "conv_dim": (16, 16, 16), "conv_kernel": (10, 8, 4), "conv_stride": (5, 8, 4), "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 4, "num_feat_extract_layers": 3, "vocab_size": 8, "hidden_dropout": 0.0,
        "attention_dropout": 0.0, "activation_dropout": 0.0, "feat_proj_dropout": 0.0,
    }  # fmt: skip
    config = {"wav2vec2": tf.Wav2Vec2Config, "wavlm": tf.WavLMConfig, "hubert": tf.HubertConfig}[kind](**waves)
    tf.AutoModel.from_config(config).save_pretrained(folder)
    tf.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return folder


def small_settings(model: Path, **changes: Any) -> TrainSettings:
    """Settings with which a tiny encoder learns the small corpus in seconds."""
    given: dict[str, Any] = {
        "model": str(model), "name": "small", "epochs": 3, "batch": 8, "hidden": 16, "learning_rate": 1e-2,
        "backbone_rate": 1e-3, "deterministic": True, "seed": 5, "threads": 1,
    }  # fmt: skip
    return TrainSettings.model_validate(given | changes)
