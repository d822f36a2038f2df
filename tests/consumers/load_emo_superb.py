"""EMO-SUPERB's data manager, data set and collation, and a step: load_emo_superb.py emo_superb FOLDER CHECKOUT"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

folder, code = Path(sys.argv[2]), Path(sys.argv[3])
sys.path.insert(0, str(code / "emo-superb"))
from dataset import DataManager, WavExtractor, WavSet, collate_fn_padd, get_norm_stat_for_wav  # noqa: E402

corpus = next(path for path in folder.iterdir() if (path / "Primary").is_dir())
labels_path, audio_path = corpus / "Primary" / "labels_consensus_1.csv", corpus / "Audios"
manager = DataManager(corpus / "Primary" / "config.json")
rows, step = 0, None
for part in ("train", "dev", "test"):
    waves = manager.get_wav_path(split_type=part, wav_loc=str(audio_path), lbl_loc=labels_path)
    names = manager.get_utt_list(part, lbl_loc=labels_path)
    labels = manager.get_msp_labels(names, lab_type="categorical", lbl_loc=labels_path)
    if part == "train":
        mean, std = get_norm_stat_for_wav(WavExtractor(waves, nj=2).extract())
    data = WavSet(waves, labels, names, print_dur=True, lab_type="categorical", wav_mean=mean, wav_std=std,
                  label_config=manager.get_label_config(label_type="categorical"))  # fmt: skip
    assert all(path.endswith(name) for path, name in zip(waves, names, strict=True))
    batches = list(torch.utils.data.DataLoader(data, batch_size=8, collate_fn=collate_fn_padd))
    rows += sum(len(sound) for sound, _, _ in batches)
    assert all(torch.allclose(targets.sum(1), torch.ones(len(targets)), atol=1e-4) for _, targets, _ in batches)
    if part == "train":
        sound, targets, _ = batches[0]
        model = torch.nn.Linear(2, manager.get_categorical_emo_num())
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        output = model(torch.stack([torch.stack([wave.mean(), wave.std()]) for wave in sound]))
        loss = torch.nn.functional.cross_entropy(output, targets)
        loss.backward()
        optimizer.step()
        step = float(loss.detach())
print(json.dumps({"rows": rows, "step": step, "version": f"EMO-SUPERB {code.name[:7]}"}))
