"""NeMo's classification data set on the manifests, its collation, and a training step: load_nemo.py nemo FOLDER"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

import torch
from nemo.collections.asr.data.audio_to_label import AudioToClassificationLabelDataset
from nemo.collections.asr.parts.preprocessing.features import WaveformFeaturizer

folder = Path(sys.argv[2])
manifests = sorted(folder.glob("*.json*"))
manifests = [path for path in manifests if "audio_filepath" in path.read_text(encoding="utf-8")]
labels = sorted(
    {json.loads(line)["label"] for path in manifests for line in path.read_text(encoding="utf-8").splitlines()}
)
rows = 0
step = None
for path in manifests:
    data = AudioToClassificationLabelDataset(
        manifest_filepath=str(path), labels=labels, featurizer=WaveformFeaturizer(sample_rate=16_000)
    )
    rows += sum(1 for row in data if len(row[0]))
    if "train" in path.name:
        batch = torch.utils.data.DataLoader(data, batch_size=8, collate_fn=data.collate_fn)
        signal, _, codes, _ = next(iter(batch))
        model = torch.nn.Linear(2, len(labels))
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        inputs = torch.stack([signal.mean(1), signal.std(1)], 1)
        loss = torch.nn.functional.cross_entropy(model(inputs), codes)
        loss.backward()
        optimizer.step()
        step = float(loss.detach())
print(json.dumps({"rows": rows, "step": step, "version": f"nemo_toolkit {version('nemo_toolkit')}"}))
