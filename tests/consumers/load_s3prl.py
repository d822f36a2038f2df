"""s3prl's data set for emotion and its collation, and a training step: load_s3prl.py s3prl FOLDER"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import soundfile
import torch
import torchaudio


def load(path: str) -> tuple[torch.Tensor, int]:
    """A recording as torchaudio's `load` gives it, which needs FFmpeg since 2.9."""
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return torch.from_numpy(samples.T.copy()), rate


torchaudio.load = load
from s3prl.downstream.emotion.dataset import IEMOCAPDataset, collate_fn  # noqa: E402

folder = Path(sys.argv[2])
rows, step = 0, None
for part in ("train", "dev", "test"):
    data: Any = IEMOCAPDataset("/", str(folder / "Session1" / f"{part}_meta_data.json"), pre_load=part == "train")
    rows += sum(1 for wave, _, _ in data if wave.ndim == 1 and len(wave))
    if part == "train":
        waves, labels, _ = next(iter(torch.utils.data.DataLoader(data, batch_size=8, collate_fn=collate_fn)))
        model = torch.nn.Linear(2, data.class_num)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        output = model(torch.tensor([[wave.mean(), wave.std()] for wave in waves]))
        loss = torch.nn.functional.cross_entropy(output, torch.LongTensor(labels))
        loss.backward()
        optimizer.step()
        step = float(loss.detach())
print(json.dumps({"rows": rows, "step": step, "version": f"s3prl {version('s3prl')}"}))
