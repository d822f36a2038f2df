"""Precedence of values: a flag, a settings file, the pipeline file, the default; `check` prints their origins."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from wording import Wording

from alm_proxies.cli.app import run as command
from alm_proxies.errors import SettingsError
from alm_proxies.pipeline.check import check
from alm_proxies.pipeline.file import read_pipeline
from alm_proxies.pipeline.run import run
from alm_proxies.pipeline.schema import annotator_schema, pipeline_schema
from alm_proxies.tables import Labels

FILE = """\
taxonomy = "happy,sad"
seed = 3
folder = "out"
[[read]]
corpus = "c"
format = "table"
source = "votes.csv"
[fuse]
method = "pool"
classes = 4
"""
VOTES = "utterance_id,annotator,label\na,r1,happy\na,r2,sad\nb,r1,sad\n"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "votes.csv").write_text(VOTES)
    (tmp_path / "p.toml").write_text(FILE)
    (tmp_path / "s.toml").write_text('seed = 4\n[fuse]\nmethod = "human"\nfolds = 3\n')
    return tmp_path / "p.toml"


def test_flags_come_before_a_settings_file_before_the_pipeline_before_defaults(file: Path) -> None:
    origins = check(file, settings="s.toml", changes={"fuse.folds": 7}).settings["fuse"]
    assert origins["folds"] == (7, "flag")
    assert origins["method"] == ("human", "s.toml")
    assert origins["classes"] == (4, "[fuse]")
    assert origins["seed"] == (4, "s.toml")
    assert origins["penalty"] == (0.001, "default")
    assert check(file).settings["fuse"]["seed"] == (3, "the file")
    ran = run(file, settings="s.toml", changes={"fuse.seed": 5}, quiet=True)
    made_by = Labels.read(ran.folder / "fuse" / "labels.parquet").about.made_by
    assert made_by is not None
    assert (made_by.settings["method"], made_by.settings["seed"]) == ("human", 5)


def test_the_command_line_says_the_same(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["check", "p.toml", "--settings", "s.toml", "--set", "fuse.folds=7", "--json"]) == 0
    out, err = capsys.readouterr()
    origins = json.loads(out)["settings"]["fuse"]
    assert origins["folds"] == {"value": 7, "origin": "flag"}
    assert origins["method"] == {"value": "human", "origin": "s.toml"}
    assert "flag: folds = 7" in err
    assert "default: " not in err
    assert err.index("1 run into") < err.index("read: 2 utterances") < err.index("flag: folds = 7")
    assert command(["check", "p.toml", "--defaults"]) == 0
    assert "default: " in capsys.readouterr().err
    assert command(["run", "p.toml", "--set", "fuse.method=dirichlet", "--quiet"]) == 0
    assert command(["run", "p.toml", "--set", "fuse.methd=pool", "--quiet"]) == 2
    assert "unknown key 'fuse.methd'. Did you mean 'method'?" in capsys.readouterr().err


def test_a_key_of_a_block_has_its_origin_also_where_its_name_is_a_word_of_python(file: Path) -> None:
    block = '[[read]]\ncorpus = "c"\nformat = "table"\nsource = "votes.csv"\n'
    more = 'as = "proxy:model"\ntrained_on_these_votes = "no"\n'
    file.write_text(FILE.replace("[fuse]", block + more + "[fuse]"))
    settings = check(file).settings["read"]
    assert settings["1.as"] == ("proxy:model", "[[read]]")
    assert settings["0.as"] == (None, "default")


def test_a_folder_of_cards_that_the_file_does_not_name_is_a_default(file: Path) -> None:
    assert check(file).settings["read"]["cards"] == (str(file.parent), "default")
    assert check(file, changes={"cards": "."}).settings["read"]["cards"] == (str(file.parent), "flag")
    file.write_text('cards = "."\n' + FILE)
    assert check(file).settings["read"]["cards"] == (str(file.parent), "the file")


def test_a_varied_value_comes_before_all(file: Path) -> None:
    file.write_text(FILE + '[vary]\n"fuse.method" = ["human", "pool"]\n')
    checked = check(file, changes={"fuse.method": "dirichlet", "fuse.seed": 3})
    warning = "fuse.method (flag) has no effect: [vary] gives its values. Take it out of [vary] to choose one."
    assert warning in checked.warnings
    assert not any("fuse.seed" in text for text in checked.warnings)
    sections = checked.settings
    assert {name: section["method"] for name, section in sections.items() if name.startswith("fuse")} == {
        "fuse/fuse.method=human": ("human", "[vary]"), "fuse/fuse.method=pool": ("pool", "[vary]"),
    }  # fmt: skip


def test_a_command_takes_flags_before_its_settings_file(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("f.toml").write_text('method = "human"\nseed = 8\n')
    arguments = ["fuse", "votes.csv", "--taxonomy", "happy,sad", "--settings", "f.toml", "-o", "l.parquet", "--quiet"]
    assert command([*arguments, "--seed", "9"]) == 0
    assert sorted(path.name for path in Path().glob("l.*")) == [
        "l.findings.parquet", "l.fitted.json", "l.parquet", "l.trials.parquet",
    ]  # fmt: skip
    made_by = Labels.read("l.parquet").about.made_by
    assert made_by is not None
    assert (made_by.settings["method"], made_by.settings["seed"]) == ("human", 9)
    capsys.readouterr()
    for text, words in (
        ('method = "human"\nclases = 3\n', "f.toml: unknown key 'clases'. Did you mean 'classes'?"),
        ("classes = 0\n", "f.toml, line 1: classes = 0: "),
        ("classes = \n", "f.toml, line 1: is not TOML"),
    ):
        Path("f.toml").write_text(text)
        assert command(arguments) == 2
        assert words in capsys.readouterr().err


def test_a_path_in_a_settings_file_is_relative_to_that_file(file: Path) -> None:
    Path("deep").mkdir()
    Path("deep/c.md").write_text(
        '+++\nname = "c"\ntitle = "C"\nlicence = "mine"\nmay_leave = false\nwhy = "it is mine"\nvotes = "two"\n'
        'taxonomy = ["happy", "sad"]\n+++\n'
    )
    Path("deep/r.toml").write_text('corpus = "c"\ncards = "."\n')
    assert command(["read", "table", "votes.csv", "--settings", "deep/r.toml", "-o", "read", "--quiet"]) == 0


def test_a_key_of_a_read_block_has_the_origin_that_its_value_has(file: Path) -> None:
    Path("more.csv").write_text(VOTES)
    Path("s.toml").write_text('[read]\nsource = "more.csv"\n')
    settings = check(file, settings="s.toml", changes={"read.map": {"joy": "happy"}}).settings["read"]
    assert {key: settings[f"c.{key}"][1] for key in ("source", "map", "format", "split")} == {
        "source": "s.toml", "map": "flag", "format": "[[read]]", "split": "default",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["s.toml", "s.conf", "settings"])
def test_paths_of_a_pipelines_settings_file_are_relative_to_that_file(name: str, file: Path) -> None:
    Path("deep/cards").mkdir(parents=True)
    Path("deep/v.csv").write_text(VOTES + "c,r1,sad\n")
    Path(f"deep/{name}").write_text('folder = "results"\ncards = "cards"\n[read]\nsource = "v.csv"\n')
    checked = check(file, settings=f"deep/{name}")
    assert checked.problems == ()
    assert checked.facts[:2] == ("1 run into deep/results", "read: 3 utterances, 4 votes (1.3 each)")
    assert checked.settings["read"]["cards"] == (str(Path("deep/cards").absolute()), f"deep/{name}")


def test_a_folder_of_cards_that_a_flag_names_is_relative_to_the_current_folder(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("elsewhere/cards").mkdir(parents=True)
    monkeypatch.chdir("elsewhere")
    checked = check(file, changes={"cards": "cards"})
    assert (checked.problems, checked.settings["read"]["cards"]) == ((), (str(Path("cards").absolute()), "flag"))


@pytest.mark.parametrize(
    ("settings", "changes", "place"),
    [
        ("sed = 1\n", {}, "s.toml: unknown key 'sed'"),
        ("", {"sed": 1}, "p.toml: unknown key 'sed'"),
        ('seed = "x"\n', {}, "s.toml: seed = 'x'"),
        ("", {"seed": "x"}, "p.toml: seed = 'x'"),
        ("hold_out = 3\n", {}, "s.toml: hold_out = 3"),
        ("", {"fuse": "pool"}, "p.toml: fuse is not a table"),
        ("", {"folder": 2026}, "p.toml: folder = 2026: a path is text"),
    ],
)
def test_an_error_names_the_place_of_the_value_and_no_line_of_another(
    settings: str, changes: dict[str, object], place: str, file: Path
) -> None:
    Path("s.toml").write_text(settings)
    with pytest.raises(SettingsError) as error:
        check(file, settings="s.toml", changes=changes)
    assert str(error.value).removeprefix(f"{file.parent}/").startswith(place), str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "prompt"),
    [
        ("train.alm.answer", "codes", "{beside}/mine.toml"),
        ("train.a.alm.label_orders", 2, "{beside}/mine.toml"),
        ("train.alm.prompt", "./other.toml", "other.toml"),
        ("train.a.alm.prompt", "./other.toml", "other.toml"),
    ],
)
def test_a_flag_in_a_table_leaves_the_paths_beside_it_where_they_are(
    key: str, value: object, prompt: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = '[train.alm]\nprompt = "./mine.toml"\n'
    file.write_text(f'{FILE}[[train]]\nname = "a"\nrecipe = "alm"\nmodel = "./model"\n{table}')
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    alm, origin = check(file, changes={key: value}).settings["train/a"]["alm"]
    assert (alm["prompt"], origin) == (prompt.format(beside=file.parent), "flag")


def test_a_flag_in_a_table_at_the_top_is_its_origin(file: Path) -> None:
    assert check(file, changes={"hold_out.keep": 1}).settings["read"]["hold_out"][1] == "flag"


def test_vary_is_written_in_the_pipeline_file_alone(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["check", "p.toml", "--set", "vary.seed=[1, 2]"]) == 2
    assert "[vary]" in capsys.readouterr().err
    file.write_text(FILE + "[vary]\nvary.seed = [1, 2]\n")
    with pytest.raises(SettingsError, match=r"vary\.vary\.seed"):
        check(file)


def test_a_flag_that_is_part_of_what_varies_has_no_effect_and_check_says_so(file: Path) -> None:
    block = '[[train]]\nname = "a"\nrecipe = "features"\n'
    file.write_text(FILE + block + '[vary]\n"train.epochs" = [2, 3]\nhold_out = [{ keep = 1 }, { keep = 2 }]\n')
    changes = {"train.a.epochs": 4, "hold_out.keep": 5, "fuse.seed": 5}
    warned = [text for text in check(file, changes=changes).warnings if "(flag) has no effect" in text]
    assert [text.split(" ")[0] for text in warned] == ["train.a.epochs", "hold_out.keep"]


def test_a_key_of_the_top_that_is_below_a_table_is_said_to_be_there(file: Path) -> None:
    file.write_text('taxonomy = "happy,sad"\n[simulate]\nutterances = 9\nfolder = "out"\n')
    with pytest.raises(SettingsError) as error:
        check(file)
    assert str(error.value).startswith(f"{file}, line 4: folder is in [simulate]")


def test_a_key_that_one_block_lacks_is_not_said_to_be_on_the_line_of_another(file: Path) -> None:
    file.write_text(FILE.replace("[fuse]", '[[read]]\nformat = "table"\n[fuse]'))
    with pytest.raises(SettingsError) as error:
        check(file)
    assert str(error.value).startswith(f"{file}: 'read.table.source' is missing")


def test_a_settings_file_for_a_pipeline_cannot_replace_its_blocks(file: Path) -> None:
    Path("s.toml").write_text('[[read]]\nformat = "crema_d"\n')
    with pytest.raises(SettingsError, match=r"Write \[read\] and the keys"):
        check(file, settings="s.toml")


def test_the_schemas_know_every_section_and_accept_what_the_reader_accepts() -> None:
    schema = pipeline_schema()
    assert set(schema["required"]) == {"folder", "taxonomy"}
    assert {"read", "hold_out", "annotate", "fuse", "align", "train", "vary", "cards"} <= set(schema["properties"])
    assert schema["properties"]["fuse"]["properties"]["method"]["description"].startswith("The method. auto")
    assert schema["properties"]["read"]["type"] == "array"
    assert annotator_schema()["properties"]["votes"]["description"]
    references = [word for word in json.dumps(schema).split('"') if word.startswith("#/$defs/")]
    assert {word.removeprefix("#/$defs/") for word in references} <= set(schema["$defs"])


def test_a_key_of_one_block_is_named_with_its_corpus_choice_or_name(tmp_path: Path) -> None:
    file = tmp_path / "p.toml"
    blocks = """[[read]]\nformat = "crema_d"\nsource = "crema"\n[[read]]\nformat = "table"\ncorpus = "mine"
source = "b.csv"\n[fuse]\n[[train]]\nrecipe = "features"\n[[train]]\nname = "b"\nrecipe = "features"
[[export]]\nformat = "csv"\n"""
    file.write_text(f'taxonomy = "crema6"\nfolder = "o"\n{blocks}')

    def changed(key: str, value: object, verb: str, name: str) -> list[tuple[object, str]]:
        found = read_pipeline(file, changes={key: value}).runs[0].sections[verb]
        if verb == "read":
            return [(getattr(block, name), "") for block in found[0].blocks]
        return [(getattr(section.settings, name), section.origins.get(name, "")) for section in found]

    beside = tmp_path / "crema", tmp_path / "b.csv"
    assert [place for place, _ in changed("read.mine.source", str(tmp_path / "c"), "read", "source")] == [
        beside[0], tmp_path / "c",
    ]  # fmt: skip
    assert [place for place, _ in changed("read.crema_d.source", str(tmp_path / "c"), "read", "source")] == [
        tmp_path / "c", beside[1],
    ]  # fmt: skip
    assert changed("train.model.hidden", 9, "train", "hidden")[0] == (9, "flag")
    assert changed("train.model.hidden", 9, "train", "hidden")[1][0] != 9
    assert changed("train.b.hidden", 9, "train", "hidden")[1] == (9, "flag")
    assert {value for value, _ in changed("train.hidden", 9, "train", "hidden")} == {9}
    assert changed("export.csv.targets", "votes", "export", "targets") == [("votes", "flag")]


TWO_MODELS = """taxonomy = "crema6"
folder = "o"
[simulate]
[fuse]
[[train]]
name = "a"
recipe = "features"
[[train]]
name = "b"
recipe = "features"
"""


def test_an_error_names_a_block_as_a_flag_does(tmp_path: Path) -> None:
    file = tmp_path / "p.toml"
    file.write_text(TWO_MODELS.replace('"b"', '"b"\nepoch = 3'))
    with pytest.raises(SettingsError, match=r"p\.toml, line 10: unknown key 'train\.b\.epoch'"):
        read_pipeline(file)
    file.write_text(TWO_MODELS)
    with pytest.raises(SettingsError, match=r"p\.toml: train\.a\.epochs = -1"):
        read_pipeline(file, changes={"train.a.epochs": -1})
    file.write_text(TWO_MODELS.replace("[fuse]", '[[read]]\nformat = "table"\ncorpus = "7"\nsource = "v.csv"\n[fuse]'))
    with pytest.raises(SettingsError, match=r"p\.toml: read\.0\.split = 3"):  # a name that could be a number
        read_pipeline(file, changes={"read.7.split": 3})
    with pytest.raises(SettingsError, match=r"p\.toml: train\.0\.epochs = -1"):  # both have that name
        file.write_text(TWO_MODELS.replace('"b"', '"a"'))
        read_pipeline(file, changes={"train.a.epochs": -1})


def test_a_table_of_a_settings_file_changes_the_block_of_its_name(tmp_path: Path) -> None:
    file, settings = tmp_path / "p.toml", tmp_path / "s.toml"
    file.write_text(TWO_MODELS)
    settings.write_text("[train]\nepochs = 3\n[train.b]\nhidden = 5\nepochs = 4\n")
    a, b = read_pipeline(file, settings=settings).runs[0].sections["train"]
    assert (a.settings.epochs, a.origins["epochs"], "hidden" in a.origins) == (3, str(settings), False)  # type: ignore[attr-defined]
    assert (b.settings.epochs, b.settings.hidden) == (4, 5)  # type: ignore[attr-defined]
    assert {b.origins[key] for key in ("epochs", "hidden")} == {str(settings)}
    assert b.origins["recipe"] != str(settings)


@pytest.mark.parametrize(
    ("settings", "changes"),
    [("[train.c]\nhidden = 5\n", {}), ("", {"train.c.hidden": 5})],
    ids=["settings file", "flag"],
)
def test_a_name_of_no_block_is_refused_with_the_names_there_are(
    settings: str, changes: dict[str, object], tmp_path: Path, wording: Wording
) -> None:
    file, beside = tmp_path / "p.toml", tmp_path / "s.toml"
    file.write_text(TWO_MODELS)
    beside.write_text(settings)
    with wording.refused(SettingsError) as error:
        read_pipeline(file, settings=beside if settings else None, changes=changes)
    assert error.value.where == str(beside if settings else file)
    assert str(error.value).endswith("here: a, b.")


def test_a_key_of_blocks_that_the_file_does_not_have_is_refused(tmp_path: Path, wording: Wording) -> None:
    file = tmp_path / "p.toml"
    file.write_text(TWO_MODELS)
    for key in ("read.source", "read.mine.source"):
        with wording.refused(SettingsError) as error:
            read_pipeline(file, changes={key: "v.csv"})
        assert error.value.where == str(file)
