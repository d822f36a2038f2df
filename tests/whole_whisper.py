"""A tiny Whisper with both halves, as they are published."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers as tf


def whole_whisper(folder: Path, *, layers: int) -> Path:
    """Its folder, with this number of encoder layers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        config = tf.WhisperConfig(
            d_model=48, encoder_layers=layers, encoder_attention_heads=3, encoder_ffn_dim=80, decoder_layers=1,
            decoder_attention_heads=3, decoder_ffn_dim=80, num_mel_bins=80, vocab_size=64, bos_token_id=0,
            eos_token_id=1, pad_token_id=0, decoder_start_token_id=1, suppress_tokens=[], begin_suppress_tokens=[],
        )  # fmt: skip
        tf.WhisperForConditionalGeneration(config).save_pretrained(folder)
    tf.WhisperFeatureExtractor(feature_size=80).save_pretrained(folder)
    return folder
