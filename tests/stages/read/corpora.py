"""Small made-up trees in the shapes of published corpora, odd cases included; none of their text is from a corpus."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import soundfile

Turn = tuple[str, str, list[str]]
"""The turn's name, its published label, and the lines of its evaluators."""

PLAIN_LINES = ["C-E1:\tNeutral;\t()", "C-E2:\tAnger;\t()", "C-E3:\tSadness;\t()", "C-E4:\tExcited;\t()"]


def damaged(content: bytes, rng: np.random.Generator, most: int) -> bytes:
    """A file's content with fewer than `most` bytes changed at random, cut at a random place."""
    changed = bytearray(content)
    for place in rng.integers(0, len(changed), rng.integers(1, most)):
        changed[place] = rng.integers(0, 256)
    return bytes(changed[: rng.integers(1, len(changed))])


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


WORKERS = {
    "MSP-PODCAST_9001_0002": [
        ("WORKER00000007", "Happy", "Happy,Amused", 5, 6, 4),
        ("WORKER00000021", "Other-hopeful", "Neutral,Other-hopeful", 5, 5, 5),
        ("WORKER00000030", "Neutral", "", 4, 4, 4),
    ],
    "MSP-PODCAST_9001_0003": [
        ("WORKER00000007", "Sad", "Sad,Depressed", 2, 2, 3),
        ("WORKER00000021", "Other: a bit, of [everything] & more?", "Sad,Other-up; down", 3, 2, 3),
    ],
}
"""Clip = answers: worker, primary and secondary emotion, activation, valence, dominance."""


def msp_detailed(folder: Path, shape: str) -> Path:
    """labels_detailed or labels.txt of MSP-Podcast in the shape of a release, of WORKERS."""
    folder.mkdir(parents=True, exist_ok=True)

    def cell(answer: tuple[str, str, str, int, int, int]) -> str:
        worker, major, second, act, val, dom = answer
        return f"{worker}; {major}; {second}; A:{act:.6f}; V:{val:.6f}; D:{dom:.6f};"

    rows = [(f"{clip}.wav", answer) for clip, answers in WORKERS.items() for answer in answers]
    if shape in ("1.6", "2.0"):
        worker = "Workers" if shape == "1.6" else "WorkerID"
        head = f"FileName,{worker},EmoClass_Major,EmoClass_Second,EmoAct,EmoVal,EmoDom"
        lines = [head, *(f'{clip},{a[0]},"{a[1]}","{a[2]}",{a[3]},{a[4]},{a[5]}' for clip, a in rows)]
        path = folder / "labels_detailed.csv"
    elif shape == "1.11":
        lines = ["FileName,EmoDetail", *(f'{clip},"{cell(answer)}"' for clip, answer in rows)]
        path = folder / "labels_detailed.csv"
    elif shape == "txt":
        lines = []
        for clip, answers in WORKERS.items():
            lines += [
                f"{clip}.wav; {'H' if '0002' in clip else 'X'}; A:4.5; V:5.0; D:4.333333;",
                *map(cell, answers),
                "",
            ]
        path = folder / "labels.txt"
    else:
        named = ("EmoClass_Major", "EmoClass_Second", "EmoAct", "EmoVal", "EmoDom")
        content: dict[str, object] = {}
        for clip, answers in WORKERS.items():
            each = [{"Name": a[0], **dict(zip(named, map(str, a[1:]), strict=True))} for a in answers]
            by_name = {a["Name"]: {name: a[name] for name in named} for a in each}
            content[f"{clip}.wav"] = {"Workers": each} if shape == "json 1.6" else by_name
        path = folder / "labels_detailed.json"
        lines = [json.dumps(content)]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def msp_podcast(root: Path, shape: str = "2.0") -> Path:
    """A release of MSP-Podcast: labels, consensus, splits, speakers, transcripts and recordings."""
    labels = root / "Labels"
    msp_detailed(labels, shape)
    (labels / "labels_consensus.csv").write_text(
        "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set\n"
        "MSP-PODCAST_9001_0002.wav,H,4.666,5.0,4.333,127,Female,Train\n"
        "MSP-PODCAST_9001_0003.wav,X,2.5,2.0,3.0,Unknown,Unknown,Development\n"
    )
    (root / "Partitions.txt").write_text(
        "Train; MSP-PODCAST_9001_0002.wav\nDevelopment; MSP-PODCAST_9001_0003.wav\nTest3; MSP-PODCAST_9009_0001.wav\n"
    )
    (root / "Speaker_ids.txt").write_text(
        "Speaker_127; Female\nSpeaker_9; Male\n\nMSP-PODCAST_9001_0002.wav;127\nMSP-PODCAST_9009_0001.wav; 9\n"
    )
    (root / "Transcripts").mkdir()
    (root / "Transcripts" / "MSP-PODCAST_9001_0002.txt").write_text("made up words\n")
    for clip in ("MSP-PODCAST_9001_0002", "MSP-PODCAST_9009_0001"):
        sound(root / "Audios" / f"{clip}.wav")
    return root


def plain_msp_podcast(root: Path) -> Path:
    """Eight clips with four votes each, of the consensus nothing."""
    folder = root / "labels"
    folder.mkdir(parents=True, exist_ok=True)
    words = ("Angry", "Happy", "Sad", "Neutral")
    rows = [
        f"MSP-PODCAST_0001_{clip:04d}.wav,WORKER{rater:08d},{words[(clip + rater) % 4]},,4,4,4"
        for clip in range(8)
        for rater in range(4)
    ]
    head = "FileName,WorkerID,EmoClass_Major,EmoClass_Second,EmoAct,EmoVal,EmoDom"
    (folder / "labels_detailed.csv").write_text("\n".join([head, *rows]))
    return root


def emodb(root: Path) -> Path:
    """Three released recordings, one more take of the listening test, and a recording nobody listened to."""
    for clip in ("03a01Fa", "08b02Wb", "16a05Nc", "09b10Ta"):
        sound(root / "wav" / f"{clip}.wav")
    rows = [
        "Nr.\tSatz\terkannt\tnatuerlich",
        *(
            f"{number}\xa0\xa0\t{clip}.wav\t{share}\xa0\xa0\t35,00\xa0"
            for number, (clip, share) in enumerate(
                [("03a01Ab", "65,00"), ("03a01Fa", "90,00"), ("08b02Wb", "95,24"), ("16a05Nc", "33,00")], start=1
            )
        ),
    ]
    (root / "erkennung.txt").write_bytes("\r\n".join(rows).encode("latin-1"))
    return root


def plain_emodb(root: Path) -> Path:
    """Eight recordings; of twenty listeners four recognised each."""
    clips = [
        f"{speaker}a0{text}{letter}a" for speaker in ("03", "08") for text, letter in zip("1245", "FWNT", strict=True)
    ]
    for clip in clips:
        sound(root / "wav" / f"{clip}.wav")
    lines = ["Nr.\tSatz\terkannt\tnatuerlich", *(f"{n}\t{clip}.wav\t20,00\t35,00" for n, clip in enumerate(clips))]
    (root / "erkennung.txt").write_bytes("\n".join(lines).encode("latin-1"))
    return root


def ravdess(root: Path) -> Path:
    """Three spoken recordings, a sung one, and one of another name."""
    for actor, name in (
        ("Actor_01", "03-01-05-02-01-01-01"),
        ("Actor_02", "03-01-01-01-02-02-02"),
        ("Actor_02", "03-01-08-01-01-01-02"),
        ("Actor_02", "03-02-03-01-01-01-02"),
        ("Actor_02", "notes"),
    ):
        sound(root / actor / f"{name}.wav")
    return root


def msp_improv(root: Path) -> Path:
    """Two turns, a worker who answers twice, ratings that are NaN, and a line of another form."""
    lines = [
        "UTD-IMPROV-S01A-F01-S-FM01.avi; N; A:2.000000; V:3.500000; D:3.000000 ; N:4.000000;",
        "MA_1; Neutral; Neutral,Frustrated; A:2.000000; V:3.000000; D:3.000000; N:4.000000;",
        "MA_2; Sad; ; A:1.000000; V:NaN; D:5.000000; N:NaN;",
        "MA_1; Happy; ; A:2.000000; V:3.000000; D:3.000000; N:4.000000;",
        "",
        "UTD-IMPROV-S07H-M04-R-MF02.avi; X; A:NaN; V:NaN; D:NaN ; N:NaN;",
        "MA_9; Other; ; A:5.000000; V:1.000000; D:1.000000; N:4.000000;",
        "nothing of theirs",
    ]
    root.mkdir(parents=True, exist_ok=True)
    (root / "Evalution.txt").write_text("\n".join(lines))
    sound(root / "Audio" / "session1" / "S01A" / "S" / "MSP-IMPROV-S01A-F01-S-FM01.wav")
    return root


def plain_msp_improv(root: Path) -> Path:
    """Eight turns with four votes each and no published label."""
    root.mkdir(parents=True, exist_ok=True)
    lines = []
    for turn in range(8):
        lines.append(f"UTD-IMPROV-S0{turn + 1}A-F01-S-FM01.avi; X; A:NaN; V:NaN; D:NaN ; N:NaN;")
        lines += [
            f"MA_{rater}; {word}; ; A:2.0; V:3.0; D:3.0; N:4.0;"
            for rater, word in enumerate(("Angry", "Happy", "Sad", "Neutral"))
        ]
    (root / "Evalution.txt").write_text("\n".join(lines))
    return root


def annotation(number: int, rater: object, emotion: list[str], **given: object) -> dict[str, object]:
    """One annotation as Label Studio exports it."""
    results: list[dict[str, object]] = []
    if emotion:
        results.append({"from_name": "emotion", "to_name": "audio", "type": "choices", "value": {"choices": emotion}})
    if "valence" in given:
        results.append({"from_name": "valence", "type": "rating", "value": {"rating": given.pop("valence")}})
    if "dominance" in given:
        results.append({"from_name": "power", "type": "number", "value": {"number": given.pop("dominance")}})
    if "secondary" in given:
        results.append({"from_name": "secondary", "type": "choices", "value": {"choices": given.pop("secondary")}})
    if "comment" in given:
        results.append({"from_name": "comment", "type": "textarea", "value": {"text": [given.pop("comment")]}})
    return {"id": number, "completed_by": rater, "was_cancelled": False, "lead_time": 3.2, "result": results, **given}


def label_studio(root: Path, tasks: list[dict[str, object]] | None = None) -> Path:
    """A project's export: two controls, a skip, a choice that is no label, a rater by e-mail, a seen prediction."""
    tasks_written = tasks or [
        {
            "id": 11,
            "data": {"audio": "/data/local-files/?d=set1/a%20%C3%BC.wav", "speaker": "anna", "gender": "Female"},
            "annotations": [
                annotation(1, 2, ["happy"], valence=6, dominance=4.5, secondary=["sad", "happy"]),
                annotation(2, 3, ["NOTALABEL"], prediction={"model_version": "m"}),
                annotation(3, {"email": "kim@example.org", "id": 7}, ["sad", "angry"], comment="hm"),
                annotation(4, 5, [], was_cancelled=True),
                annotation(5, 2, ["happy"]),
            ],
        },
        {
            "id": 12,
            "data": {"audio": "s3://bucket/b.wav", "utterance_id": "b2", "split": "dev", "transcript": "made up"},
            "annotations": [annotation(6, "kim@example.org", ["neutral"]), annotation(7, 2, [])],
        },
        {"id": 13, "data": {"audio": "/data/upload/1/c.wav"}, "annotations": []},
    ]
    root.mkdir(parents=True, exist_ok=True)
    path = root / "project.json"
    path.write_text(json.dumps(tasks_written, ensure_ascii=False), encoding="utf-8")
    return path


def plain_label_studio(root: Path) -> Path:
    """Eight tasks with four annotations each."""
    words = ("angry", "happy", "sad")
    return label_studio(
        root,
        [
            {
                "id": task,
                "data": {"audio": f"u{task}.wav", "speaker": f"s{task % 4}"},
                "annotations": [annotation(9, rater, [words[(task + rater) % 3]]) for rater in range(4)],
            }
            for task in range(8)
        ],
    )
