"""SpeechBrain's data sets, label encoder and loader, and a training step: load_speechbrain.py speechbrain FOLDER"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

import soundfile
import torch
from speechbrain.dataio.dataloader import SaveableDataLoader
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.dataio.encoder import CategoricalEncoder

folder = Path(sys.argv[2])


def read(path: str) -> torch.Tensor:
    """A recording, as their recipes read it."""
    samples, _ = soundfile.read(path, dtype="float32")
    return torch.from_numpy(samples)


rows = 0
step = None
for name in ("train", "valid", "test"):
    data = DynamicItemDataset.from_json(str(folder / f"{name}.json"))
    data.add_dynamic_item(read, takes="wav", provides="sig")
    if name == "train":
        encoder = CategoricalEncoder()
        encoder.update_from_didataset(data, "emo")
    data.add_dynamic_item(encoder.encode_label_torch, takes="emo", provides="code")
    data.set_output_keys(["id", "sig", "code", "length"])
    rows += sum(1 for row in data if len(row["sig"]) == round(16_000 * row["length"]))
    if name == "train":
        model = torch.nn.Linear(2, len(encoder))
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        batch = next(iter(SaveableDataLoader(data, batch_size=8, collate_fn=list)))
        inputs = torch.stack([torch.stack([row["sig"].mean(), row["sig"].std()]) for row in batch])
        loss = torch.nn.functional.cross_entropy(model(inputs), torch.cat([row["code"].reshape(1) for row in batch]))
        loss.backward()
        optimizer.step()
        step = float(loss.detach())
print(json.dumps({"rows": rows, "step": step, "version": f"speechbrain {version('speechbrain')}"}))
