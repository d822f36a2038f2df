"""In a pipeline, sentences name keys of its file where a command's sentence names a flag."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile

from alm_proxies.cli.app import run as command
from alm_proxies.errors import InputError, TableError
from alm_proxies.pipeline.check import check
from alm_proxies.pipeline.file import read_pipeline
from alm_proxies.pipeline.graph import nodes_of
from alm_proxies.pipeline.keys import in_file
from alm_proxies.pipeline.outputs import Outputs
from alm_proxies.pipeline.run import run
from alm_proxies.stages.fuse.stage import FuseSettings, fuse
from alm_proxies.tables import Findings, Votes

FILE = """\
taxonomy = "crema6"
folder = "out"
[[read]]
corpus = "mine"
format = "table"
source = "votes.csv"
columns = { utterance_id = "clip", annotator = "rater", label = "label" }
"""
EVERY = '[annotate]\npanel = ["embedded"]\n[fuse]\n[align]\n[[train]]\nname = "m"\nrecipe = "features"\n'


def pipeline(folder: Path, sections: str, word: str = "happy") -> Path:
    rows = [f"c{n},r{rater},{(word, 'sad')[(n + rater) % 2]}" for n in range(30) for rater in (0, 1)]
    (folder / "votes.csv").write_text("\n".join(["clip,rater,label", *rows]))
    path = folder / "mine.toml"
    path.write_text(FILE + sections)
    return path


@pytest.mark.parametrize(
    ("verb", "sentence", "expected"),
    [
        ("fuse", "Hold out fewer: --hold-out keep=1 keeps one.", "Hold out fewer: [hold_out] keep = 1 keeps one."),
        ("fuse", "Set it: --hold-out splits=test,keep=3.", 'Set it: [hold_out] splits = "test", keep = 3.'),
        ("train", "Give votes (--votes), or choose loss = kld.", "Give votes, or choose loss = kld."),
        ("train", "Raise longest (--longest).", "Raise longest."),
        ("train", "Read it again with --recordings FOLDER.", 'Read it again with [[read]] recordings = "FOLDER".'),
        ("annotate", "Continue with --accept-loss and pay.", "Continue with [annotate] accept_loss = true and pay."),
        ("annotate", "Use --shard I/N, one each.", 'Use [annotate] shard = "I/N", one each.'),
        ("annotate", "Leave --limit out.", "Leave [annotate] limit out."),
        ("annotate", "Name its file with --annotator too.", "Name its file with [annotate] panel too."),
        ("read", "Give --columns 'audio=a/{x}.wav' (columns).", 'Give [[read]] columns = { audio = "a/{x}.wav" }.'),
        ("read", "Name it: --columns audio=...", 'Name it: [[read]] columns = { audio = "..." }'),
        ("align", "fuse takes it: columns = ['x'] (--columns x).", "fuse takes it: columns = ['x']."),
        ("align", "Some (`--hold-out keep=3`).", "Some (`[hold_out] keep = 3`)."),
        ("align", "Fuse with `--method human` alone.", 'Fuse with `[fuse] method = "human"` alone.'),
        ("align", "Request its votes with annotate --annotator m.", "Request its votes with annotate --annotator m."),
        ("align", "Write --no-such-flag.", "Write --no-such-flag."),
    ],
)
def test_a_flag_becomes_the_key_that_the_file_has_for_it(
    verb: str, sentence: str, expected: str, tmp_path: Path
) -> None:
    (only,) = read_pipeline(pipeline(tmp_path, EVERY)).runs
    node = next(node for node in nodes_of(only) if node.stage.verb == verb)
    assert in_file(sentence, node, only) == expected


def test_check_and_run_name_the_key_and_the_command_its_flag(tmp_path: Path) -> None:
    path = pipeline(tmp_path, '[fuse]\nmethod = "pool"\n[hold_out]\nkeep = 0\n')
    (problem,) = check(path).problems
    assert "[hold_out] keep = 1 keeps one vote" in problem
    with pytest.raises(InputError) as error:
        run(path, quiet=True)
    assert "[hold_out] keep = 1 keeps one vote" in str(error.value)
    votes = Votes.of(
        pl.DataFrame({"utterance_id": ["a"], "annotator": ["r"], "label": ["sad"], "held_out": [True]}),
        taxonomy="crema6",
    )
    with pytest.raises(InputError, match="--hold-out keep=1"):
        fuse(votes, FuseSettings(method="pool"))


@pytest.mark.parametrize("moved", [False, True])
def test_findings_of_a_folder_name_keys_as_the_run_did_and_those_of_a_command_its_flags(
    moved: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    path = pipeline(tmp_path, '[fuse]\nmethod = "pool"\n', word="joy")
    ran = run(path, quiet=True).findings.frame
    kept = Findings.read(out / "read" / "findings.parquet").frame
    assert kept["fix"].str.contains("(--map)", literal=True).any(), "the file has the words of the command"
    if moved:
        out = out.rename(tmp_path / "elsewhere")
        path.unlink()
    for place in (out, out / "read"):
        shown = Outputs.of(place).findings()
        wanted = ran if place == out else ran.filter(pl.col("stage") == "read")
        assert set(shown.select("message", "fix").rows()) == set(wanted.select("message", "fix").rows())
    assert command(["findings", str(out)]) == 0
    assert "--" not in capsys.readouterr().out
    source = str(tmp_path / "votes.csv")
    options = ["--corpus", "mine", "--taxonomy", "crema6", "--columns", "utterance_id=clip,annotator=rater,label=label"]
    assert command(["read", "table", source, *options, "-o", str(tmp_path / "read")]) == 0
    assert command(["findings", str(tmp_path / "read")]) == 0
    assert "(--map)" in capsys.readouterr().out


def test_an_error_of_a_stage_and_its_findings_name_keys(tmp_path: Path) -> None:
    path = pipeline(tmp_path, "", word="joy")
    result = run(path, quiet=True)
    (fix,) = result.findings.frame.filter(kind="synonyms")["fix"]
    assert "map = {" in fix
    assert "--" not in fix
    (tmp_path / "votes.csv").write_bytes("clip,rater,label\nä,r,sad\n".encode("latin-1"))
    with pytest.raises(TableError) as error:
        run(path, quiet=True)
    assert 'encoding = "latin-1"' in str(error.value)
    assert "--" not in str(error.value)


def shown_on(page: Path) -> str:
    """The findings that a page shows."""
    (section,) = re.findall(r"<section[^>]*>\s*<h2[^>]*>What was left out.*?</section>", page.read_text(), re.DOTALL)
    return unescape(section)


def test_pages_of_a_run_name_keys_in_their_findings_and_those_of_a_command_flags(tmp_path: Path) -> None:
    more = FILE[FILE.index("[[read]]") :].replace('"mine"', '"other"').replace("votes.csv", "aged.csv")
    aged = more.replace(' label = "label" }', ' label = "label" }\ngroups = ["age"]')
    path = pipeline(tmp_path, f'{aged}[hold_out]\nkeep = 1\n[fuse]\nmethod = "human"\n[align]\n', word="joy")
    rows = [f"c{n},r{rater},{('happy', 'sad')[(n + rater) % 2]},{20 + n}" for n in range(60) for rater in (0, 1, 2)]
    (tmp_path / "aged.csv").write_text("\n".join(["clip,rater,label,age", *rows]))
    run(path, quiet=True)
    out = tmp_path / "out"
    pages = {"read": out / "read" / "corpora.html", "align": out / "align" / "report.html"}
    for stage, page in pages.items():
        kept = Findings.read(out / stage / "findings.parquet").frame
        assert kept["fix"].str.contains("--", literal=True).any(), "the file has the words of the command"
        assert "--" not in shown_on(page), stage
    assert "map = {" in shown_on(pages["read"])
    tables = ["--votes", str(out / "read"), "--utterances", str(out / "read"), "-o", str(tmp_path / "own.html")]
    assert command(["align", str(out / "fuse" / "labels.parquet"), *tables]) == 0
    assert "(--columns age)" in shown_on(tmp_path / "own.html")


@pytest.mark.parametrize("hold_out", ["", "[hold_out]\nkeep = 1\n"])
def test_every_sentence_of_a_page_of_a_run_names_keys_and_the_command_its_flags(hold_out: str, tmp_path: Path) -> None:
    sections = f'{hold_out}[annotate]\npanel = ["heard.toml"]\ninjection = 0\n[fuse]\nmethod = "pool"\n[align]\n'
    path = pipeline(tmp_path, sections)
    rows = [
        f"c{n},r{rater},{('happy', 'sad')[(n + rater) % 5 > 1]},{n}.wav,s{n % 9},Hello"
        for n in range(60)
        for rater in range(5)
    ]
    (tmp_path / "votes.csv").write_text("\n".join(["clip,rater,label,audio,speaker,text", *rows]))
    columns = 'label = "label", audio = "audio", speaker = "speaker", transcript = "text" }'
    path.write_text(path.read_text().replace('label = "label" }', columns))
    for n in range(60):
        soundfile.write(tmp_path / f"{n}.wav", np.sin(np.arange(8000) * (n + 5) / 60), 16000)
    (tmp_path / "prompt.toml").write_text(
        'describes = "x"\nelicits = "label"\nrequires = ["transcript"]\nafter = "{{ transcript }} {{ choices }}"\n'
    )
    (tmp_path / "heard.toml").write_text(
        'name = "heard"\nengine = "scripted"\nmodel = "m"\nprompt = "prompt.toml"\nelicit = "sample"\nvotes = 1\n'
        f'serve = {{ answers = "{tmp_path}/answers.csv" }}\n'
    )
    answers = [f"mine/c{n},{('happy', 'sad')[n % 2]}" for n in range(60)]
    (tmp_path / "answers.csv").write_text("\n".join(["utterance_id,text", *answers]))
    run(path, quiet=True)
    page = tmp_path / "out" / "align" / "report.html"
    assert "--" not in sentences_on(page)
    assert "[annotate] injection = 20" in sentences_on(page)
    tables = [f"--votes={tmp_path / 'out' / stage}" for stage in ("read", "annotate")]
    labels = str(tmp_path / "out" / "fuse" / "labels.parquet")
    people = str(tmp_path / "out" / "read")
    assert command(["align", labels, *tables, "--utterances", people, "-o", str(tmp_path / "own.html")]) == 0
    assert "--injection 20" in sentences_on(tmp_path / "own.html")
    if not hold_out:
        assert "[hold_out] keep = 3" in sentences_on(page)
        assert "--hold-out keep=3" in sentences_on(tmp_path / "own.html")


def sentences_on(page: Path) -> str:
    """All text of a page but its scripts and styles."""
    return unescape(re.sub(r"<(script|style)>.*?</\1>|<!--.*?-->|<[^>]+>", " ", page.read_text(), flags=re.DOTALL))
