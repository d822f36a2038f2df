from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import soundfile
from listening import listening
from robbing import COUNT, PRICE, VOTES

from alm_proxies.about import About
from alm_proxies.annotators.annotator import Annotator
from alm_proxies.annotators.annotator_file import AnnotatorFile
from alm_proxies.engines.engine import Request
from alm_proxies.stages.annotate.stage import Annotated, AnnotateSettings, annotate
from alm_proxies.tables import Utterances

LABELS = ("angry", "happy", "neutral", "sad")
Make = Callable[..., Any]


@pytest.fixture
def corpus(tmp_path: Path) -> Make:
    """Makes `count` short recordings with different tones, and their Utterances."""

    def make(count: int, name: str = "sim", seconds: float = 0.2, **columns: list[Any]) -> Utterances:
        folder = tmp_path / "audio" / name
        folder.mkdir(parents=True, exist_ok=True)
        time = np.arange(int(seconds * 16_000)) / 16_000
        for number in range(count):
            soundfile.write(folder / f"{number:05d}.wav", 0.3 * np.sin(2 * np.pi * (150 + number) * time), 16_000)
        frame = pl.DataFrame(
            {
                "utterance_id": [f"{name}/{number:05d}" for number in range(count)],
                "corpus": [name] * count,
                "audio": [f"{number:05d}.wav" for number in range(count)],
                "duration": [seconds] * count,
                "speaker": [f"{name}/{number % 4}" for number in range(count)],
                "transcript": [f"This is sentence {number}." for number in range(count)],
                **columns,
            }
        )
        return Utterances.of(frame, about=About(taxonomy=LABELS, roots={name: str(folder)}))

    return make


@pytest.fixture
def annotator(tmp_path: Path) -> Make:
    """Makes a scripted annotator that draws from shares by utterance, or gives the texts of a list."""

    def make(
        utterances: Utterances,
        name: str = "scripted",
        texts: Mapping[str, list[str]] | None = None,
        serve: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> Annotator:
        ids = utterances.frame["utterance_id"].to_list()
        if texts is None:
            shares = np.random.default_rng(3).dirichlet(np.ones(len(LABELS)), len(ids))
            table = pl.DataFrame({"utterance_id": ids, **{f"p_{x}": shares[:, n] for n, x in enumerate(LABELS)}})
        else:
            rows = [
                (utterance_id, text) for utterance_id in ids for text in texts.get(utterance_id, texts.get("*", []))
            ]
            table = pl.DataFrame(rows, schema=["utterance_id", "text"], orient="row")
        answers = tmp_path / f"{name}.parquet"
        table.write_parquet(answers)
        values = {"name": name, "engine": "scripted", "model": name, **settings}
        file = AnnotatorFile.model_validate({**values, "serve": {"answers": str(answers), **(serve or {})}})
        return Annotator.of(file, where=str(tmp_path / f"{name}.toml"))

    return make


@pytest.fixture
def annotator_files(corpus: Make, annotator: Make, tmp_path: Path) -> Make:
    """Makes an utterances file and an annotator file with these lines, as `annotate` takes them; gives both paths."""

    def make(count: int, *lines: str, seconds: float = 0.01) -> list[str]:
        utterances: Utterances = corpus(count)
        annotator(utterances)
        paths = tmp_path / "utterances.parquet", tmp_path / "a.toml"
        utterances.write(paths[0])
        serve = f'serve = {{ answers = "{tmp_path / "scripted.parquet"}", seconds = {seconds} }}'
        paths[1].write_text("\n".join(['name = "scripted"', 'engine = "scripted"', 'model = "m"', *lines, serve]))
        return list(map(str, paths))

    return make


@pytest.fixture
def again(corpus: Make, annotator: Make, tmp_path: Path) -> Callable[..., tuple[Annotated, list[Request]]]:
    """Runs the same command again and gives its requests."""
    utterances = corpus(COUNT)
    scripted = annotator(utterances, votes=VOTES, price=PRICE)

    def run(**settings: Any) -> tuple[Annotated, list[Request]]:
        asked: list[Request] = []
        engine_of = listening(asked)
        annotated = annotate(
            utterances, [scripted], tmp_path / "out", AnnotateSettings(**settings), engine_of=engine_of, quiet=True
        )
        return annotated, asked

    return run
