"""More small made-up trees in the shapes of published corpora: EmotionLines, Dusha."""

from __future__ import annotations

import json
from pathlib import Path

from tests.stages.read.corpora import sound

Line = tuple[str, str, str, str]
"""Speaker, utterance, published label and the string of counts."""


def emotionlines_file(path: Path, dialogues: list[list[Line]]) -> Path:
    """A file of EmotionLines."""
    names = ("speaker", "utterance", "emotion", "annotation")
    content = [[dict(zip(names, line, strict=True)) for line in dialogue] for dialogue in dialogues]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return path


def emotionlines(root: Path) -> Path:
    """Both parts; a line without a majority, one with four votes, one with a broken annotation, a translated copy."""
    emotionlines_file(
        root / "Friends" / "friends_train.json",
        [
            [("Kim", "Made up.", "neutral", "4000010"), ("Lee", "So it is.", "non-neutral", "1202000")],
            [("Kim", "Really?", "surprise", "0000040")],
        ],
    )
    emotionlines_file(root / "Friends" / "friends_dev.json", [[("Lee", "Yes.", "joy", "0500000")]])
    emotionlines_file(root / "EmotionPush" / "emotionpush_test.json", [[("1234", "ok", "neutral", "five")]])
    emotionlines_file(root / "Friends" / "friends_augmented.json", [[("Kim", "Oui.", "joy", "0500000")]])
    return root


def plain_emotionlines(root: Path) -> Path:
    """Eight lines with four votes each and no published label."""
    counts = ("1110010", "0111100", "2000200", "0000400")
    lines = [[("Kim", f"Line {turn}.", "non-neutral", counts[turn]) for turn in range(4)] for _ in range(2)]
    emotionlines_file(root / "friends.json", lines)
    return root


DUSHA = ("hash_id", "audio_path", "duration", "annotator_emo", "golden_emo", "annotator_id", "speaker_text",
         "speaker_emo", "source_id")  # fmt: skip


def dusha_file(path: Path, rows: list[tuple[str, ...]]) -> Path:
    """A raw label file of Dusha, as .tsv or as .jsonl."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(DUSHA), *("\t".join(row) for row in rows)]
    if path.suffix == ".jsonl":
        lines = [json.dumps(dict(zip(DUSHA, row, strict=True)), ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def dusha(root: Path) -> Path:
    """A crowd's recordings with a control task and a second answer, and a podcast without a recording."""
    crowd = [
        ("aa11", "wavs/aa11.wav", "2.5", "positive", "", "7", "выдуманные слова", "positive", "3"),
        ("aa11", "wavs/aa11.wav", "2.5", "neutral", "", "8", "выдуманные слова", "positive", "3"),
        ("aa11", "wavs/aa11.wav", "2.5", "neutral", "", "8", "выдуманные слова", "positive", "3"),
        ("cc33", "wavs/cc33.wav", "1.0", "sad", "angry", "7", "слово", "angry", "4"),
        ("cc33", "wavs/cc33.wav", "1.0", "angry", "angry", "9", "слово", "angry", "4"),
    ]
    dusha_file(root / "crowd_train" / "raw_crowd_train.tsv", crowd)
    dusha_file(root / "crowd_train" / "raw_crowd_train.jsonl", crowd)
    podcast = [
        ("bb22", "wavs/bb22.wav", "nan", "other", "", "7", "", "", "11"),
        ("bb22", "wavs/bb22.wav", "nan", "angry", "", "", "", "", "11"),
    ]
    dusha_file(root / "podcast_test" / "raw_podcast_test.jsonl", podcast)
    for clip in ("aa11", "cc33"):
        sound(root / "crowd_train" / "wavs" / f"{clip}.wav")
    return root


def plain_dusha(root: Path) -> Path:
    """Eight recordings with four votes each."""
    words = ("angry", "sad", "neutral", "positive")
    rows = [
        (
            f"h{clip}",
            f"wavs/h{clip}.wav",
            "1.0",
            words[(clip + rater) % 4],
            "",
            f"{rater}",
            "слово",
            "sad",
            f"{clip % 4}",
        )
        for clip in range(8)
        for rater in range(4)
    ]
    dusha_file(root / "crowd_train" / "raw_crowd_train.tsv", rows)
    return root
