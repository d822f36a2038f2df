"""Files of annotators that answer from tables."""

from __future__ import annotations

from pathlib import Path

IDEAL = """\
name = "ideal"
engine = "scripted"
model = "truth"
prompt = "reference"
elicit = "sample"
votes = 4
answer = "words"
cross = {{ temperature = [0.7, 1.0], focus = ["tone", "wording"] }}
serve = {{ answers = "{folder}/simulate/truth.parquet" }}
price = {{ audio_minute = 1.0 }}
"""
"""One that answers from the truth of a simulated corpus; `folder` is where the pipeline writes."""
_OF_A_TABLE = """\
name = "{name}"
engine = "scripted"
model = "table"
prompt = "reference"
elicit = "sample"
votes = 2
answer = "words"
serve = {{ answers = "{folder}/answers.csv", seconds = {seconds} }}
"""


def of_a_table(folder: Path, name: str, *, price: float | None = None, seconds: float = 0.0) -> Path:
    """Write NAME.toml into a folder: it answers in `seconds` from answers.csv there, at a price a minute of audio."""
    path = folder / f"{name}.toml"
    priced = "" if price is None else f"price = {{ audio_minute = {price} }}\n"
    path.write_text(_OF_A_TABLE.format(name=name, folder=folder, seconds=seconds) + priced)
    return path
