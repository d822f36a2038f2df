"""On a GPU, not measured yet: samples a second, share of the card's peak, memory and waiting of full-size shapes.

    ALM_PROXIES_TEST_DATA=DATA python benchmarks/training/gpu.py [--shape wavlm-large|qwen2-audio-lora] [--peak 989e12]

Random weights of the real sizes, so nothing is downloaded: WavLM-Large (315 M weights, fine-tuned whole, bf16) and
Qwen2-Audio-7B with LoRA (r = 8 on q, k, v, o; logits at the label position alone). Clips are 4 s of noise, made as
recordings would be. MFU = 6 x trained-through weights x tokens / (seconds x peak); recomputation does not count.
Goals: MFU 45 %, waiting under 3 %. The peak is the card's dense bf16 peak: 989e12 for an H100.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import torch
import transformers as tf

BATCH, SECONDS, STEPS, WARM = 32, 4.0, 30, 5


def wavlm_large() -> tuple[torch.nn.Module, Callable[[], dict[str, torch.Tensor]], float]:
    """The model, its batches, and floating-point operations a step."""
    config = tf.WavLMConfig(
        hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096,
        feat_extract_norm="layer", do_stable_layer_norm=True, layerdrop=0.0, apply_spec_augment=False,
    )  # fmt: skip
    model = tf.WavLMForSequenceClassification(config)
    layers = sum(weight.numel() for weight in model.wavlm.encoder.parameters())
    frames = int(SECONDS * 50)

    def batch() -> dict[str, torch.Tensor]:
        waves = torch.randn(BATCH, int(SECONDS * 16_000)).pin_memory()
        return {"input_values": waves, "labels": torch.randint(0, 2, (BATCH,)).pin_memory()}

    return model, batch, 6.0 * layers * frames * BATCH


def qwen2_audio_lora() -> tuple[torch.nn.Module, Callable[[], dict[str, torch.Tensor]], float]:
    """The language model of Qwen2-Audio-7B over audio tokens with LoRA, with the loss at the last position only."""
    from peft import LoraConfig, get_peft_model

    config = tf.Qwen2Config(
        hidden_size=4096, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=32,
        intermediate_size=11_008, vocab_size=156_032,
    )  # fmt: skip
    with torch.device("cuda"):
        base = tf.Qwen2Model(config).to(torch.bfloat16)
    model = get_peft_model(
        base, LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"])
    )
    weights = sum(weight.numel() for weight in base.parameters()) - base.get_input_embeddings().weight.numel()
    tokens = int(SECONDS * 25) + 60

    def batch() -> dict[str, torch.Tensor]:
        return {"inputs_embeds": torch.randn(BATCH, tokens, config.hidden_size, dtype=torch.bfloat16).pin_memory()}

    # frozen matrices cost a forward pass and the gradient of what goes through them: 4 of the usual 6
    return model, batch, 4.0 * weights * tokens * BATCH


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", choices=("wavlm-large", "qwen2-audio-lora"), default="wavlm-large")
    parser.add_argument("--peak", type=float, default=989e12)
    given = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("this benchmark needs a GPU")
    model, batch, operations = wavlm_large() if given.shape == "wavlm-large" else qwen2_audio_lora()
    model.cuda().train()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, 1e-5, fused=True)
    waited, started = 0.0, 0.0
    for step in range(WARM + STEPS):
        if step == WARM:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            waited, started = 0.0, time.perf_counter()
        waiting = time.perf_counter()
        inputs = {name: value.cuda(non_blocking=True) for name, value in batch().items()}
        waited += time.perf_counter() - waiting
        with torch.autocast("cuda", torch.bfloat16):
            output = model(**inputs)
            loss = output.loss if "labels" in inputs else output.last_hidden_state[:, -1].float().square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    torch.cuda.synchronize()
    seconds = (time.perf_counter() - started) / STEPS
    result = {
        "shape": given.shape,
        "card": torch.cuda.get_device_name(),
        "samples_per_second": round(BATCH / seconds, 1),
        "mfu": round(operations / seconds / given.peak, 3),
        "memory_gib": round(torch.cuda.max_memory_allocated() / 2**30, 1),
        "waiting": round(waited / STEPS / seconds, 3),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
