"""ms-swift's own loader and preprocessors on the three flavours: load_ms_swift.py ms_swift FOLDER"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

from swift.dataset import load_dataset

folder = Path(sys.argv[2])
rows = 0
for flavour in ("text", "multi_label", "decision"):
    for path in sorted(folder.glob(f"*_{flavour}.jsonl")):
        data, _ = load_dataset(str(path), split_dataset_ratio=0.0, num_proc=1, strict=True, remove_unused_columns=False)
        wanted = len(path.read_text(encoding="utf-8").splitlines())
        assert len(data) == wanted, f"{path.name}: {len(data)} of {wanted} rows are left"
        for row in data:
            tags = sum(message["content"].count("<audio>") for message in row["messages"])
            assert tags == len(row["audios"])
            if flavour == "multi_label":
                assert abs(sum(row["label"]) - 1) < 1e-4
            if flavour == "decision":
                assert abs(sum(row["target_probs"][0]) - 1) < 1e-4
        rows += len(data)
print(json.dumps({"rows": rows, "step": None, "version": f"ms-swift {version('ms-swift')}"}))
