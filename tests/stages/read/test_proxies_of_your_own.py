"""Proxies that a user brings: asked what they were trained on, with their folds, by flag, pipeline file and Python."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from alm_proxies import FuseSettings, ReadSettings, fuse, read
from alm_proxies.about import About, MadeBy, Measured
from alm_proxies.cli.app import run
from alm_proxies.errors import AlmProxiesError, InputError, SettingsError, TableError
from alm_proxies.estimators.counts import counts_of
from alm_proxies.estimators.trials import folds_of
from alm_proxies.measures.exchange import Exchanges
from alm_proxies.settings import settings_of
from alm_proxies.stages.fuse.files import fuse_files
from alm_proxies.stages.read.formats.crema_d import CremaDSource
from alm_proxies.stages.read.formats.emotionlines import EmotionlinesSource
from alm_proxies.stages.read.formats.table import TableSource
from alm_proxies.stages.read.formats.tables import TablesSource
from alm_proxies.stages.read.settings import HoldOut
from alm_proxies.tables import Labels, Utterances, Votes, combine
from alm_proxies.trained_on import KEY
from tests.stages.read.more_corpora import emotionlines_file

LABELS = ("angry", "happy", "neutral", "sad")
SPEAKERS = [f"s{number}" for number in range(8)]
FOLD = {name: number % 4 for number, name in enumerate(SPEAKERS)}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Human votes, a classifier's probabilities for the same clips, and the folds it was trained in."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    human, soft = ["clip,who,rater,heard"], ["clip,fold," + ",".join(LABELS)]
    for clip in range(160):
        speaker = SPEAKERS[clip % 8]
        truth = rng.dirichlet([0.5] * 4)
        human += [f"c{clip},{speaker},r{r},{LABELS[rng.choice(4, p=truth)]}" for r in range(3)]
        soft.append(f"c{clip},{FOLD[speaker]}," + ",".join(f"{share:.6f}" for share in 0.8 * truth + 0.05))
    Path("votes.csv").write_text("\n".join(human))
    Path("soft.csv").write_text("\n".join(soft))
    Path("folds.csv").write_text("speaker,fold\n" + "\n".join(f"{name},{fold}" for name, fold in FOLD.items()))
    return tmp_path


HUMAN = TableSource(
    corpus="mine",
    source=Path("votes.csv"),
    columns={"utterance_id": "clip", "speaker": "who", "annotator": "rater", "label": "heard"},
)
SOFT = {"corpus": "mine", "source": Path("soft.csv"), "columns": {"utterance_id": "clip"}}
SHARES = {label: label for label in LABELS}
IEMOCAP = ReadSettings(taxonomy="iemocap4")


def classifier(**stated: object) -> TableSource:
    stated = {"as": "proxy:classifier", "trained_on_these_votes": "out_of_fold", "folds": Path("folds.csv"), **stated}
    return TableSource.model_validate({**SOFT, "probabilities": SHARES, **stated})


def test_probabilities_of_a_classifier_are_votes_of_a_proxy_and_its_folds_are_the_folds_of_fuse(files: Path) -> None:
    corpus = read([HUMAN, classifier()], IEMOCAP)
    card = corpus.votes.about.annotators["classifier"]
    assert (card.source, card.elicit, card.trained_on_these_votes) == ("proxy", "score", "out_of_fold")
    assert card.folds == {f"mine/{name}": fold for name, fold in FOLD.items()}
    assert corpus.labels is None
    cast = corpus.votes.frame.filter(pl.col("source") == "proxy")
    assert cast["annotator"].unique().to_list() == ["classifier"]
    assert cast.group_by("utterance_id").agg(pl.col("weight").sum())["weight"].to_numpy() == pytest.approx(1.0)
    corpus.write("out")  # the folds travel in the file
    votes, people = Votes.read("out/votes.parquet"), Utterances.read("out/utterances.parquet")
    fold = folds_of(counts_of(votes, utterances=people), 5, 0)
    speakers = people.frame.sort("utterance_id")["speaker"].str.strip_prefix("mine/").to_list()
    assert fold.tolist() == [FOLD[name] for name in speakers]
    fused = fuse(votes, FuseSettings(), utterances=people, quiet=True)
    chosen = fused.findings.frame.filter(pl.col("kind") == "chosen")["message"][0]
    assert "those that 'classifier' was trained in" in chosen


def test_predictions_read_as_a_proxy_say_what_their_model_was_trained_on_and_fuse_leaves_that_out(files: Path) -> None:
    rows = pl.read_csv("soft.csv")
    frame = rows.select(utterance_id="mine/" + pl.col("clip"), **{f"p_{label}": pl.col(label) for label in LABELS})
    trained_on = {"mine": ["mine/s0", "mine/s3"]}
    measured = {"corpus": "mine, development speakers", "nll_per_vote": 1.0, "class_shares_nll_per_vote": 1.25}
    made_by = MadeBy(stage="predict", settings={KEY: trained_on, "measured": measured})
    Labels.of(frame, about=About(taxonomy=LABELS, made_by=made_by)).write("predicted.parquet")
    source = TableSource.model_validate(
        {"corpus": "mine", "source": Path("predicted.parquet"), "columns": {"utterance_id": "utterance_id"},
         "probabilities": {label: f"p_{label}" for label in LABELS},
         "as": "proxy:model", "trained_on_these_votes": "no"}
    )  # fmt: skip
    corpus = read([HUMAN, source], IEMOCAP)
    card = corpus.votes.about.annotators["model"]
    assert card.trained_on == trained_on
    assert card.measured == Measured.model_validate(measured)
    assert card.measured.takes_off == pytest.approx(0.2)
    fused = fuse(corpus.votes, FuseSettings(method="weighted"), utterances=corpus.utterances, quiet=True)
    excluded = fused.findings.frame.filter(pl.col("kind") == "proxy_trained_on")
    assert (excluded["count"].to_list(), excluded["where"].to_list()) == ([40], ["model"])
    speakers = fused.labels.frame.join(corpus.utterances.frame, on="utterance_id")
    beside = speakers.group_by("speaker").agg(pl.col("proxy_votes").sum())
    assert dict(beside.iter_rows()) == {f"mine/{name}": 0.0 if name in ("s0", "s3") else 20.0 for name in SPEAKERS}
    corpus.write("out")
    Path("whole").mkdir()
    whole = fuse_files([Path("out/votes.parquet")], Path("whole/labels.parquet"), FuseSettings(method="weighted"),
                       utterances=Path("out/utterances.parquet"), quiet=True)  # fmt: skip
    parts = fuse_files([Path("out/votes.parquet")], Path("whole/parts.parquet"), FuseSettings(method="weighted"),
                       utterances=Path("out/utterances.parquet"), quiet=True, part_rows=50, whole_rows=1)  # fmt: skip
    for fused_votes in (whole, parts):
        assert fused_votes.findings.counts()["proxy_trained_on"] == 40
    first, second = (Labels.read(f"whole/{name}.parquet").frame for name in ("labels", "parts"))
    assert first.equals(second)


def predicted(path: str, trained_on: dict[str, list[str]], clips: range) -> None:
    """Predictions of a model for some clips, as predict writes them."""
    rows = pl.read_csv("soft.csv")[list(clips)]
    frame = rows.select(utterance_id="mine/" + pl.col("clip"), **{f"p_{label}": pl.col(label) for label in LABELS})
    made_by = MadeBy(stage="predict", settings={KEY: trained_on})
    Labels.of(frame, about=About(taxonomy=LABELS, made_by=made_by)).write(path)


def of_predictions(source: str, *files: str) -> TableSource:
    return TableSource.model_validate(
        {"corpus": "mine", "source": Path(source), "columns": {"utterance_id": "utterance_id"},
         "probabilities": {label: f"p_{label}" for label in LABELS}, "files": dict.fromkeys(files, "train"),
         "as": "proxy:model", "trained_on_these_votes": "no"}
    )  # fmt: skip


def test_several_files_of_predictions_say_what_their_model_was_trained_on(files: Path) -> None:
    first, other = {"mine": ["mine/s0", "mine/s3"]}, {"mine": ["mine/s1"]}
    Path("several").mkdir()
    predicted("several/a.parquet", first, range(80))
    predicted("several/b.PARQUET", first, range(80, 160))
    predicted("several/c.parquet", other, range(80, 160))
    whole = read(of_predictions("several", "a.parquet", "b.PARQUET"), IEMOCAP).votes
    assert len(whole.frame) == 160 * 4
    assert whole.about.annotators["model"].trained_on == first
    alone = read(of_predictions("several/b.PARQUET"), IEMOCAP).votes
    assert alone.about.annotators["model"].trained_on == first
    with pytest.raises(InputError, match="2 models"):
        read(of_predictions("several", "a.parquet", "c.parquet"), IEMOCAP)


def test_votes_of_a_proxy_read_again_say_what_it_was_trained_on(files: Path) -> None:
    trained_on = {"mine": ["mine/s0", "mine/s3"]}
    predicted("predicted.parquet", trained_on, range(160))
    read(of_predictions("predicted.parquet"), IEMOCAP).write("once")
    stated = {"as": "proxy:again", "trained_on_these_votes": "no"}
    folder = TablesSource.model_validate({"corpus": "mine", "source": Path("once"), **stated})
    columns = {"utterance_id": "utterance_id", "annotator": "annotator", "label": "label"}
    table = {"corpus": "mine", "source": Path("once/votes.parquet"), "columns": columns}
    for source in (folder, TableSource.model_validate(table | stated)):
        card = read(source, IEMOCAP).votes.about.annotators["again"]
        assert card.trained_on == trained_on


def test_flags_a_pipeline_file_and_python_read_the_same_proxy(files: Path) -> None:
    by_python = read(classifier(), IEMOCAP).votes
    flags = ["--corpus", "mine", "--taxonomy", "iemocap4", "--columns", "utterance_id=clip"]
    flags += ["--probabilities", ",".join(f"{label}={label}" for label in LABELS)]
    flags += ["--as", "proxy:classifier", "--trained-on-these-votes", "out_of_fold", "--folds", "folds.csv"]
    assert run(["read", "table", "soft.csv", *flags, "-o", "out", "--quiet"]) == 0
    shares = ", ".join(f'{label} = "{label}"' for label in LABELS)
    Path("p.toml").write_text(f"""
taxonomy = "iemocap4"
folder = "runs"
[[read]]
corpus = "mine"
format = "table"
source = "soft.csv"
columns = {{ utterance_id = "clip" }}
probabilities = {{ {shares} }}
as = "proxy:classifier"
trained_on_these_votes = "out_of_fold"
folds = "folds.csv"
""")
    assert run(["run", "p.toml", "--quiet"]) == 0
    for path in ("out/votes.parquet", "runs/read/votes.parquet"):
        votes = Votes.read(path)
        assert votes.frame.sort(Votes.KEY).equals(by_python.frame.sort(Votes.KEY))
        assert votes.about.annotators == by_python.about.annotators
    assert TableSource(**SOFT, probabilities=SHARES, read_as="proxy:x", trained_on_these_votes="no").proxy == "x"


def test_changed_folds_are_read_again(files: Path) -> None:
    Path("p.toml").write_text("""
taxonomy = "iemocap4"
folder = "runs"
[[read]]
corpus = "mine"
format = "table"
source = "soft.csv"
columns = { utterance_id = "clip" }
probabilities = { angry = "angry", happy = "happy", neutral = "neutral", sad = "sad" }
as = "proxy:classifier"
trained_on_these_votes = "out_of_fold"
folds = "folds.csv"
""")
    assert run(["run", "p.toml", "--quiet"]) == 0
    Path("folds.csv").write_text("speaker,fold\n" + "\n".join(f"{name},{n % 2}" for n, name in enumerate(SPEAKERS)))
    assert run(["run", "p.toml", "--quiet"]) == 0
    folds = Votes.read("runs/read/votes.parquet").about.annotators["classifier"].folds
    assert folds is not None
    assert set(folds.values()) == {0, 1}


def test_what_a_proxy_was_trained_on_is_asked_and_yes_is_refused_in_a_sentence(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = ["--corpus", "mine", "--taxonomy", "iemocap4", "--columns", "utterance_id=clip"]
    command = ["read", "table", "soft.csv", *shared, "--probabilities", ",".join(f"{x}={x}" for x in LABELS)]
    for more, expected in (
        (["--as", "proxy:c"], "was 'c' trained on human votes of these utterances?"),
        (["--as", "proxy:c", "--trained-on-these-votes", "yes"], "fusing it would count them twice"),
        (["--trained-on-these-votes", "no"], "are for proxies"),
        (["--as", "proxy:c", "--trained-on-these-votes", "no", "--folds", "folds.csv"], "out_of_fold"),
        (["--as", "robot"], "as"),
    ):
        assert run([*command, *more, "-o", "out", "--quiet"]) == 2
        message = capsys.readouterr().err
        assert expected in message
        assert len(message.strip().splitlines()) == 1
    assert not Path("out/votes.parquet").exists()
    with pytest.raises(SettingsError, match="count them twice"):
        settings_of(TableSource, {**SOFT, "as": "proxy:c", "trained_on_these_votes": "yes"}, "here")


def test_folds_may_be_a_column_of_the_table(files: Path) -> None:
    source = classifier(folds=Path("fold"), groups=("fold",))
    card = read([HUMAN, source], IEMOCAP).votes.about.annotators["classifier"]
    assert card.folds is not None
    assert card.folds["mine/c3"] == FOLD["s3"]
    corpus = read([HUMAN, source], IEMOCAP)
    fold = folds_of(counts_of(corpus.votes, utterances=corpus.utterances), 5, 0)
    assert len(set(fold.tolist())) == 4


def test_folds_that_part_a_speaker_are_a_finding_and_no_folds_of_fuse(files: Path) -> None:
    rows = [f"{name},{fold}" for name in SPEAKERS for fold in (0, 1)]
    Path("folds.csv").write_text("speaker,fold\n" + "\n".join(rows))
    corpus = read([HUMAN, classifier()], IEMOCAP)
    assert corpus.findings.counts()["folds_share_speakers"] == 8
    assert corpus.votes.about.annotators["classifier"].folds is None
    Path("folds.csv").write_text("utterance_id,fold\n" + "\n".join(f"c{n},{n % 3}" for n in range(160)))
    corpus = read([HUMAN, classifier()], IEMOCAP)
    counts = counts_of(corpus.votes, utterances=corpus.utterances)
    assert counts.folds is not None
    assert counts.folds.fold is None  # 8 speakers in 3 folds of utterances: none of them is whole


def test_folds_that_are_not_stated_or_are_no_folds_are_said(files: Path) -> None:
    assert "folds_unknown" in read([HUMAN, classifier(folds=None)], IEMOCAP).findings.counts()
    Path("folds.csv").write_text("speaker,fold\n" + "\n".join(f"{name},0" for name in SPEAKERS))
    with pytest.raises(TableError, match="fewer than two folds"):
        read([HUMAN, classifier()], IEMOCAP)
    Path("folds.csv").write_text("speaker,part\ns0,1\n")
    with pytest.raises(AlmProxiesError, match="fold"):
        read([HUMAN, classifier()], IEMOCAP)


def test_votes_of_several_raters_become_draws_of_one_proxy(files: Path) -> None:
    source = HUMAN.model_copy(update={"read_as": "proxy:crowd2", "trained_on_these_votes": "no"})
    votes = read(source, IEMOCAP).votes.frame
    assert votes["source"].unique().to_list() == ["proxy"]
    assert votes.group_by("utterance_id").agg(pl.col("draw").sort())["draw"].to_list() == [[0, 1, 2]] * 160


def crema(folder: Path, modality: str, name: str | None = None) -> CremaDSource:
    stated = {"as": f"proxy:{name}", "trained_on_these_votes": "no"} if name else {}
    return CremaDSource.model_validate({"source": folder / "crema_d", "modality": modality, **stated})


def test_one_modality_of_crema_d_is_a_proxy_of_another(test_data: Path) -> None:
    corpus = read(
        [crema(test_data, "voice"), crema(test_data, "face", "face")], ReadSettings(hold_out=HoldOut(keep=3), seed=1)
    )
    kinds = corpus.votes.frame.group_by("source", "held_out").len().sort("source", "held_out").rows()
    assert [(source, held) for source, held, _ in kinds] == [("human", False), ("human", True), ("proxy", False)]
    assert set(corpus.votes.about.annotators) == {"face"}
    assert corpus.utterances.frame["utterance_id"].is_unique().all()


def test_a_classifier_trained_on_the_fit_votes_of_crema_d_is_found_and_one_trained_in_folds_is_not(
    tmp_path: Path, test_data: Path
) -> None:
    """The same regression on face votes and 300 columns of noise, trained on all clips or without the clip's actor."""
    corpus = read(
        [crema(test_data, "voice"), crema(test_data, "face", "face")], ReadSettings(hold_out=HoldOut(keep=3), seed=1)
    )
    labels, people = corpus.votes.taxonomy, corpus.utterances
    counts = counts_of(corpus.votes, utterances=people)
    rng = np.random.default_rng(0)
    chosen = np.isin(counts.speakers, rng.permutation(np.unique(counts.speakers))[:40])
    counts = counts.rows(np.flatnonzero(chosen & (counts.human.sum(1) > 0)))
    face = (counts.blocks[0].counts + 0.3) / (counts.blocks[0].counts + 0.3).sum(1, keepdims=True)
    inputs = np.c_[np.log(face), rng.normal(size=(len(counts), 300)), np.ones(len(counts))]
    shares = counts.human / counts.human.sum(1, keepdims=True)
    folds = counts.speakers % 5

    def predicted(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        ridge = inputs[train].T @ inputs[train] + 3.0 * np.eye(inputs.shape[1])
        estimates = np.clip(inputs[test] @ np.linalg.solve(ridge, inputs[train].T @ shares[train]), 0.02, None)
        return estimates / estimates.sum(1, keepdims=True)

    every = np.ones(len(counts), dtype=bool)
    honest = np.zeros_like(shares)
    for fold in range(5):
        honest[folds == fold] = predicted(folds != fold, folds == fold)
    parts = [corpus.votes]
    for name, soft in (("cheats", predicted(every, every)), ("honest", honest)):
        table = pl.DataFrame(soft, schema=list(labels)).insert_column(0, counts.utterances.alias("clip"))
        table.write_csv(tmp_path / f"{name}.csv")
        source = TableSource.model_validate(
            {"corpus": "crema_d", "source": tmp_path / f"{name}.csv", "columns": {"utterance_id": "clip"}}
            | {"probabilities": {label: label for label in labels}, "as": f"proxy:{name}"}
            | {"trained_on_these_votes": "no"}
        )
        parts.append(read(source, ReadSettings(taxonomy=labels)).votes)
    exchanges = Exchanges(people)
    exchanges.add(combine(*parts))
    tests = {test.annotator: test for test in exchanges.tests()}
    assert tests["cheats"].knows
    assert tests["cheats"].gap.low > 0.01
    assert not tests["honest"].knows
    assert not tests["face"].knows
    assert abs(tests["honest"].gap.estimate) < tests["cheats"].gap.estimate / 3


def test_a_proxy_casts_no_vote_for_the_published_label_of_its_own_votes(tmp_path: Path) -> None:
    """The raters of the words voted five times, and a sixth time with the label that most of them gave."""
    path = emotionlines_file(tmp_path / "friends.json", [[("Kim", "Ok.", "joy", "1400000")]])
    stated = {"as": "proxy:words", "trained_on_these_votes": "no"}
    corpus = read(EmotionlinesSource.model_validate({"source": path, **stated}))
    assert corpus.votes.frame["label"].to_list() == ["neutral", *["happy"] * 4]
    assert corpus.findings.counts()["consensus"] == 1


def test_spaces_around_the_names_of_folds_are_no_part_of_them_and_a_missing_one_is_refused(files: Path) -> None:
    plain = read([HUMAN, classifier()], IEMOCAP).votes.about.annotators["classifier"].folds
    text = Path("folds.csv").read_text()
    Path("folds.csv").write_text(text.replace(",", " , ").replace(" , ", ",", 1).replace("\ns", "\n s"))
    assert read([HUMAN, classifier()], IEMOCAP).votes.about.annotators["classifier"].folds == plain
    Path("folds.csv").write_text(text.replace("s3,", "NA,"))
    with pytest.raises(TableError, match="column speaker: None is missing"):
        read([HUMAN, classifier()], IEMOCAP)


def test_ratings_of_a_proxy_may_be_on_another_scale_than_those_of_the_raters(tmp_path: Path) -> None:
    sources = []
    for name, top, more in (("people", 5, {}), ("net", 9, {"as": "proxy:net", "trained_on_these_votes": "no"})):
        (tmp_path / f"{name}.csv").write_text(f"clip,heard,v\na,happy,{top}\nb,sad,1\n")
        columns = {"utterance_id": "clip", "label": "heard", "valence": "v"}
        stated = {
            "corpus": "mine",
            "source": tmp_path / f"{name}.csv",
            "columns": columns,
            "scales": {"valence": (1, top)},
        }
        sources.append(TableSource.model_validate({**stated, **more}))
    votes = read(sources, IEMOCAP).votes
    assert votes.about.scales == {"mine": {"valence": (1.0, 5.0)}}
    assert sorted(votes.frame["valence"]) == [0.0, 0.0, 1.0, 1.0]
    apart = [read(source, IEMOCAP).votes for source in sources]
    assert combine(*apart).about.scales == votes.about.scales
