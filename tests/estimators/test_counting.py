"""What labels say of how the votes behind them were counted."""

import polars as pl
import pytest
from pydantic import ValidationError

from alm_proxies.ballots import Counting, Merge, counting_of
from alm_proxies.stages.fuse.stage import FuseSettings, fuse
from alm_proxies.tables import About, Labels, MadeBy, Utterances, Votes

FRAME = pl.DataFrame(
    {
        "utterance_id": [f"u{i // 3}" for i in range(60)],
        "annotator": [f"r{i % 3}" for i in range(60)],
        "label": [("angry", "happy", "sad")[(i // 7 + i % 2) % 3] for i in range(60)],
    }
)


@pytest.mark.parametrize("method", ["dirichlet", "gated"])
def test_fused_labels_say_how_the_votes_were_counted_and_a_file_keeps_it(method: str, tmp_path) -> None:
    votes = Votes.of(FRAME, taxonomy=("angry", "happy", "sad"))
    people = Utterances.of(
        pl.DataFrame({"utterance_id": [f"u{i}" for i in range(20)], "loud": [i / 20 for i in range(20)]})
    )
    settings = {"merge": {"primary": 0.8, "secondary": 0.2}, "consensus": True, "columns": ["loud"], "classes": 2}
    fused = fuse(votes, FuseSettings(method=method, **settings), utterances=people)
    fused.labels.write(tmp_path / "labels.parquet")
    wanted = Counting(merge=Merge(primary=0.8, secondary=0.2), consensus=True, columns=("loud",))
    assert counting_of(Labels.read(tmp_path / "labels.parquet").about) == wanted


def test_dawid_skene_says_what_it_does_and_not_what_was_set() -> None:
    votes = Votes.of(FRAME, taxonomy=("angry", "happy", "sad"))
    fused = fuse(votes, FuseSettings(method="dawid_skene", consensus=True, columns=("loud",)))
    assert counting_of(fused.labels.about) == Counting()


@pytest.mark.parametrize(
    "made_by",
    [
        None,
        MadeBy(stage="fuse"),
        MadeBy(stage="fuse", settings={"merge": 1, "consensus": False, "columns": []}),
        MadeBy(stage="simulate", settings_digest="0" * 16),
    ],
)
def test_labels_that_do_not_say_how_votes_were_counted_give_nothing(made_by: MadeBy | None) -> None:
    assert counting_of(About(made_by=made_by)) is None


@pytest.mark.parametrize("shares", [(0.9, 0.2), (1.0, -0.1), (0.0, 1.0)])
def test_shares_of_a_merge_that_do_not_sum_to_one_are_refused(shares: tuple[float, float]) -> None:
    with pytest.raises(ValidationError):
        Merge(primary=shares[0], secondary=shares[1])
