"""Small made-up trees in the shapes of published corpora, odd cases included; none of their text is from a corpus."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

Turn = tuple[str, str, list[str]]
"""The turn's name, its published label, and the lines of its evaluators."""

PLAIN_LINES = ["C-E1:\tNeutral;\t()", "C-E2:\tAnger;\t()", "C-E3:\tSadness;\t()", "C-E4:\tExcited;\t()"]


def sound(path: Path) -> None:
    """A tenth of a second of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.01, 1600), 16000)


def iemocap(root: Path, dialogues: dict[str, list[Turn]], *, ending: str = "\n", start: str = "") -> Path:
    """A tree of IEMOCAP: dialogues with their turns, transcripts and recordings."""
    for dialogue, turns in dialogues.items():
        session = root / f"Session{dialogue[4]}"
        lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
        spoken = []
        for number, (name, label, answers) in enumerate(turns):
            times = f"[{number * 3 + 1:.4f} - {number * 3 + 2.5:.4f}]"
            lines += [f"{times}\t{name}\t{label}\t[2.5000, 3.0000, 2.0000]", *answers, ""]
            spoken += [f"{name} {times.replace(' - ', '-')}: Words of turn {number}.", f"{name[-4]}: (laughs)"]
            sound(session / "sentences" / "wav" / dialogue / f"{name}.wav")
        for folder, content in (("EmoEvaluation", lines), ("transcriptions", spoken)):
            path = session / "dialog" / folder / f"{dialogue}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes((start + ending.join(content)).encode("latin-1" if not start else "utf-8"))
    return root


def plain_iemocap(root: Path) -> Path:
    """Eight turns of two sessions with four votes each."""
    return iemocap(
        root,
        {
            f"Ses0{session}F_impro01": [
                (f"Ses0{session}F_impro01_{side}{turn:03d}", "xxx", PLAIN_LINES) for side in "FM" for turn in range(2)
            ]
            for session in (1, 2)
        },
    )
