"""EmoBox's preparation of its SpeechBrain example, and a training step: load_emobox.py emobox FOLDER CHECKOUT"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import torch
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.dataio.encoder import CategoricalEncoder

folder, code = Path(sys.argv[2]), Path(sys.argv[3])
sys.path.insert(0, str(code / "examples" / "sb"))
from dataset_prepare import prepare_data  # noqa: E402

data = next((folder / "data").iterdir())
name = data.name
with tempfile.TemporaryDirectory() as place:
    work = Path(place)
    # One vector a recording, in the place of its extraction of features, which needs a pretrained model.
    for key, item in json.loads((data / f"{name}.json").read_text(encoding="utf-8")).items():
        samples, rate = soundfile.read(item["wav"], always_2d=True)
        assert abs(len(samples) / rate - item["length"]) < 1e-6
        wave = samples[:, item["channel"] - 1]
        np.save(work / f"{key}.npy", np.array([[wave.mean(), wave.std()]], dtype=np.float32))
    parts = ("train", "valid", "test")
    prepare_data(
        **{f"{part}_annotation": str(data / "fold_1" / f"{name}_{part}_fold_1.json") for part in parts},
        **{f"save_json_{part}": str(work / f"{part}.json") for part in parts},
        label_map=str(data / "label_map.json"),
        feat_dir=str(work),
    )
    sets = {part: DynamicItemDataset.from_json(str(work / f"{part}.json")) for part in parts}
    encoder = CategoricalEncoder()
    for part in sets.values():
        part.add_dynamic_item(lambda key: torch.from_numpy(np.load(work / f"{key}.npy")), takes="id", provides="feat")
        part.add_dynamic_item(encoder.encode_label_torch, takes="emo", provides="code")
    encoder.update_from_didataset(sets["train"], "emo")
    for part in sets.values():
        part.set_output_keys(["id", "feat", "code"])
    rows = sum(1 for part in sets.values() for row in part if row["feat"].shape == (1, 2))
    model = torch.nn.Linear(2, len(encoder))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    batch = [sets["train"][number] for number in range(8)]
    logits = model(torch.cat([row["feat"] for row in batch]))
    loss = torch.nn.functional.cross_entropy(logits, torch.cat([row["code"].reshape(1) for row in batch]))
    loss.backward()
    optimizer.step()
print(json.dumps({"rows": rows, "step": float(loss.detach()), "version": f"EmoBox {code.name[:7]}"}))
