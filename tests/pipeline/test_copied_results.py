"""A folder of results that was copied or moved as a whole has its own recordings with it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from alm_proxies.audio.recipe import Sounds
from alm_proxies.cli.app import run as command
from alm_proxies.pipeline.check import check
from alm_proxies.pipeline.places import digest_without_origin
from alm_proxies.pipeline.run import run
from alm_proxies.tables import Utterances

FILE = """\
taxonomy = "crema6"
[simulate]
utterances = 30
speakers = 12
dense = 4
[fuse]
method = "human"
[balance]
classes = "square_root"
render = true
copies = { size = 1.3 }
[[train]]
recipe = "features"
epochs = 1
[[export]]
name = "csv"
format = "csv"
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a pipeline that simulates, renders copies, trains and exports; its file beside it."""
    place = tmp_path_factory.mktemp("finished")
    (place / "p.toml").write_text(FILE)
    return run(place / "p.toml", folder=place / "old", quiet=True).folder


@pytest.fixture
def moved(finished: Path, tmp_path: Path) -> Iterator[Path]:
    """Its copy, in a world where the folder itself is gone."""
    shutil.copytree(finished, tmp_path / "new [1]" / "deep")
    finished.rename(finished.with_name("away"))
    yield tmp_path / "new [1]" / "deep"
    finished.with_name("away").rename(finished)


def heard(table: Path) -> int:
    utterances = Utterances.read(table)
    assert not any(str(Path("old")) in root.split("/") for root in utterances.about.roots.values())
    return sum(opened.clip is not None for opened in Sounds(utterances, stage="test").ahead())


def test_recordings_are_found_in_the_copy(finished: Path, moved: Path) -> None:
    for stage, least in (("simulate", 30), ("read", 30), ("balance", 35)):
        table = moved / stage / "utterances.parquet"
        assert heard(table) == len(Utterances.read(table)) >= least


def test_a_pipeline_in_the_copy_states_the_new_places_and_trains_nothing_again(finished: Path, moved: Path) -> None:
    facts = check(finished.parent / "p.toml", folder=moved).facts
    assert "simulate: unchanged, will be skipped" in facts
    ran = run(finished.parent / "p.toml", folder=moved, quiet=True)
    assert [record.stage for record in ran.records if not record.skipped] == ["read", "balance", "export"]
    exported = "".join(path.read_text() for path in (moved / "export").rglob("*.csv"))
    assert str(moved) in exported
    assert str(finished) not in exported
    assert run(finished.parent / "p.toml", folder=moved, quiet=True).skipped == len(ran.records)


def test_commands_find_recordings_in_the_copy(moved: Path, tmp_path: Path) -> None:
    (model,) = (moved / "train").iterdir()
    call = ["predict", str(model), str(moved / "balance"), "-o", str(tmp_path / "p.parquet")]
    assert command([*call, "--quiet"]) == 0


def test_a_table_that_was_copied_alone_states_what_it_stated(finished: Path, tmp_path: Path) -> None:
    for stage in ("simulate", "read", "balance"):
        alone = tmp_path / stage / "utterances.parquet"
        alone.parent.mkdir()
        shutil.copyfile(finished / stage / "utterances.parquet", alone)
        (tmp_path / "simulate" / "wav").mkdir(exist_ok=True)  # with no recording
        assert Utterances.read(alone) is not None
        before, now = (Utterances.read(path) for path in (finished / stage / "utterances.parquet", alone))
        assert now.frame.equals(before.frame)
        assert now.about == before.about


def test_a_corpus_that_is_no_result_is_stated_by_its_path_alone(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    assert command(["simulate", "-o", str(corpus), "--utterances", "12", "--speakers", "12", "--dense", "2"]) == 0
    for name in ("utterances.parquet", "votes.parquet"):
        shutil.move(corpus / name, tmp_path / name)
    table = Utterances.read(tmp_path / "utterances.parquet")
    assert table.about.roots == {"sim": str(corpus)}
    table.write(tmp_path / "results" / "utterances.parquet")
    shutil.copytree(tmp_path, tmp_path.with_name(f"{tmp_path.name}2"))
    copied = Utterances.read(tmp_path.with_name(f"{tmp_path.name}2") / "results" / "utterances.parquet")
    assert copied.about.roots == {"sim": str(corpus)}


def test_the_content_of_a_table_does_not_depend_on_where_its_rendered_items_are(finished: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished / "balance", copy)
    before = digest_without_origin(finished / "balance" / "utterances.parquet")
    assert digest_without_origin(copy / "utterances.parquet") == before
    Utterances.read(copy / "utterances.parquet").write(copy / "utterances.parquet")
    assert digest_without_origin(copy / "utterances.parquet") == before
