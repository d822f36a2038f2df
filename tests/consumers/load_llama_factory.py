"""LLaMA-Factory's own loader and converter on every file: load_llama_factory.py llama_factory FOLDER"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

from llamafactory.data.loader import _load_single_dataset
from llamafactory.data.parser import get_dataset_list
from llamafactory.hparams import DataArguments, ModelArguments
from transformers import Seq2SeqTrainingArguments

folder = Path(sys.argv[2])
names = list(json.loads((folder / "dataset_info.json").read_text(encoding="utf-8")))
data_args = DataArguments(dataset=",".join(names), dataset_dir=str(folder), media_dir="/")
training = Seq2SeqTrainingArguments(output_dir=str(folder / "out"), use_cpu=True, report_to=[])
rows = 0
for name, attributes in zip(names, get_dataset_list(names, str(folder)), strict=True):
    data = _load_single_dataset(attributes, ModelArguments(model_name_or_path="none"), data_args, training)
    written = json.loads((folder / attributes.dataset_name).read_text(encoding="utf-8"))
    assert len(data) == len(written), f"{name}: {len(data)} of {len(written)} rows are left"
    for row in data:
        assert row["_prompt"][0]["content"].count("<audio>") == len(row["_audios"]) == 1
        assert Path(row["_audios"][0]).is_file()
        assert row["_response"][0]["content"]
    rows += len(data)
print(json.dumps({"rows": rows, "step": None, "version": f"llamafactory {version('llamafactory')}"}))
