"""The challenge's readers, data sets and collation, and two steps: load_odyssey.py odyssey FOLDER CHECKOUT"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

folder, code = Path(sys.argv[2]), Path(sys.argv[3])
sys.path.insert(0, str(code))
import net  # noqa: E402
import utils  # noqa: E402


def loader(config: str, read: Any, kind: Any, part: str) -> torch.utils.data.DataLoader[Any]:
    """The batches of a part, as in their training scripts."""
    settings = json.loads((folder / config).read_text(encoding="utf-8"))
    names, labels = read(settings["label_path"], part)
    waves = utils.WavSet(utils.load_audio(settings["wav_dir"], names, nj=2))
    data = utils.CombinedSet([waves, kind(labels), names])
    return torch.utils.data.DataLoader(data, batch_size=8, collate_fn=utils.collate_fn_wav_lab_mask)


def step(batches: torch.utils.data.DataLoader[Any], outputs: int, loss_of: Any) -> float:
    """One training step on two numbers of each recording."""
    sound, labels, mask, _ = next(iter(batches))
    assert sound.shape == mask.shape
    model = net.EmotionRegression(2, 4, 1, outputs, dropout=0.5).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    loss = loss_of(model(torch.stack([sound.mean(1), sound.std(1)], 1)), labels)
    loss.backward()
    optimizer.step()
    return float(loss.detach())


rows = 0
for part in ("train", "dev", "test1"):
    batches = loader("config_cat.json", utils.load_cat_emo_label, utils.CAT_EmoSet, part)
    rows += sum(len(labels) for _, labels, _, _ in batches)
    assert all(torch.allclose(labels.sum(1), torch.ones(len(labels)), atol=1e-4) for _, labels, _, _ in batches)
    ratings = loader("config.json", utils.load_adv_emo_label, utils.ADV_EmoSet, part)
    assert len(ratings.dataset) == len(batches.dataset)
    assert all(0 <= float(labels.min()) <= float(labels.max()) <= 1 for _, labels, _, _ in ratings)
    if part == "train":
        loss = step(batches, 8, torch.nn.CrossEntropyLoss())
        step(ratings, 3, lambda output, labels: 1 - utils.CCC_loss(output, labels).mean())
print(json.dumps({"rows": rows, "step": loss, "version": f"MSP-Podcast_Challenge {code.name[:7]}"}))
