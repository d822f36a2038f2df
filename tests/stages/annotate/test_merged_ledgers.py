import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from wording import Wording

from alm_proxies.errors import InputError
from alm_proxies.remote.at_hand import table_in
from alm_proxies.stages.annotate.ledger import Ledger, Lost, Sending, Trial
from alm_proxies.stages.annotate.ledgers import repeated, status
from alm_proxies.stages.annotate.lock import OneWriter
from alm_proxies.stages.annotate.merging import merge
from alm_proxies.stages.annotate.stage import AnnotateSettings, annotate
from alm_proxies.tables import Votes

Make = Callable[..., Any]
PRICE = {"audio_minute": 60.0}


def test_merged_shards_are_the_run_without_shards(corpus: Make, annotator: Make, tmp_path: Path) -> None:
    utterances = corpus(15)
    panel = [annotator(utterances, "one", votes=3, price=PRICE), annotator(utterances, "two", elicit="score")]
    whole = annotate(utterances, panel, tmp_path / "whole", AnnotateSettings())
    for number in (1, 2, 3):
        annotate(utterances, panel, tmp_path / f"part{number % 2}", AnnotateSettings(shard=f"{number}/3"))
    merged = merge([tmp_path / "part0", tmp_path / "part1"], tmp_path / "merged")
    frame = whole.votes.frame
    assert merged.votes.frame.equals(frame)
    assert merged.votes.about.annotators == whole.votes.about.annotators
    assert status(tmp_path / "merged")[0].price == pytest.approx(whole.spent.price)
    again = merge([tmp_path / "part0", tmp_path / "part1"], tmp_path / "merged")
    assert again.votes.frame.equals(frame)
    assert status(tmp_path / "merged")[0].price == pytest.approx(whole.spent.price)


def test_a_vote_in_two_ledgers_is_kept_once_and_both_stay_paid(corpus: Make, annotator: Make, tmp_path: Path) -> None:
    utterances = corpus(10)
    broken = annotator(utterances, votes=1, price=PRICE, serve={"faults": {"server_error": 0.5}})
    lenient = AnnotateSettings.model_validate({"stop": {"failed": 1.0}})
    first = annotate(utterances, [broken], tmp_path / "a", lenient)
    assert 0 < (first.votes.frame["status"] == "failed").sum() < 10
    second = annotate(utterances, [annotator(utterances, votes=1, price=PRICE)], tmp_path / "b", lenient)
    merged = merge([tmp_path / "a", tmp_path / "b"], tmp_path / "merged")
    assert merged.votes.frame.equals(second.votes.frame)
    assert merged.findings.counts()["cast_twice"] == 10
    assert status(tmp_path / "merged")[0].price == pytest.approx(first.spent.price + second.spent.price)


def test_an_ok_vote_is_kept_whichever_of_two_ledgers_is_named_first(
    corpus: Make, annotator: Make, tmp_path: Path
) -> None:
    utterances = corpus(6)
    lenient = AnnotateSettings.model_validate({"stop": {"failed": 1.0, "refused": 1.0}})
    refused = annotator(utterances, votes=1, price=PRICE, serve={"faults": {"refused": 1.0}})
    first = annotate(utterances, [refused], tmp_path / "a", lenient)
    assert first.by_status == {"refused": 6}
    second = annotate(utterances, [annotator(utterances, votes=1, price=PRICE)], tmp_path / "b", lenient)
    for order in (["a", "b"], ["b", "a"]):
        merged = merge([tmp_path / name for name in order], tmp_path / "merged")
        assert merged.votes.frame.equals(second.votes.frame)
        assert merged.findings.counts()["cast_twice"] == 6
        assert status(tmp_path / "merged")[0].price == pytest.approx(first.spent.price + second.spent.price)


def test_shards_of_different_annotators_labels_or_nothing_are_refused(
    corpus: Make, annotator: Make, tmp_path: Path
) -> None:
    utterances = corpus(4)
    annotate(utterances, [annotator(utterances, votes=1)], tmp_path / "a", AnnotateSettings(shard="1/2"))
    annotate(utterances, [annotator(utterances, votes=1)], tmp_path / "b", AnnotateSettings(shard="2/2", seed=9))
    with pytest.raises(InputError, match="'scripted' is not the same in"):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "merged")
    with pytest.raises(InputError, match="there is no such folder"):
        merge([tmp_path / "c"], tmp_path / "merged")
    with pytest.raises(InputError, match="contains no ledger"):
        merge([tmp_path], tmp_path / "merged")
    with pytest.raises(InputError, match="cast here, not merged"):
        whole = tmp_path / "whole"
        annotate(utterances, [annotator(utterances, votes=1)], whole, AnnotateSettings())
        merge([tmp_path / "a"], whole)
    assert not (tmp_path / "merged").exists()


def test_a_second_merge_into_a_folder_at_the_same_time_is_told_to_wait(
    corpus: Make, annotator: Make, tmp_path: Path, wording: Wording
) -> None:
    utterances, merged = corpus(4), tmp_path / "merged"
    annotate(utterances, [annotator(utterances, votes=1)], tmp_path / "a", AnnotateSettings())
    first = merge([tmp_path / "a"], merged)
    with OneWriter(merged / "ledger.lock", merging=True), pytest.raises(InputError) as refused:
        merge([tmp_path / "a"], merged)
    wording(str(refused.value).replace(f"({os.getpid()})", "(1)"))
    assert refused.value.where == str(merged)
    assert Votes.read(merged).frame.equals(first.votes.frame)
    assert len(merge([tmp_path / "a"], merged).votes) == 4


def test_status_says_how_far_it_is_and_what_it_costs(corpus: Make, annotator: Make, tmp_path: Path) -> None:
    utterances = corpus(10)
    scripted = annotator(utterances, votes=4, price=PRICE)
    annotate(utterances, [scripted], tmp_path, AnnotateSettings(budget=1.0))
    now = status(tmp_path)[0]
    assert (now.planned, now.cast, now.waiting) == (40, {"ok": 20}, 20)
    assert now.price == pytest.approx(1.0)
    assert now.price_left == pytest.approx(1.0)
    assert now.rate > 0
    assert "40 votes planned, cast: 20 ok; 20 waiting" in str(now)
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as sql:
        sql.execute("UPDATE vote SET at = 0")
        sql.commit()
    assert status(tmp_path)[0].minutes_left is None


def test_what_trying_servers_out_cost_is_on_the_merged_bill(corpus: Make, annotator: Make, tmp_path: Path) -> None:
    utterances = corpus(4)
    scripted = annotator(utterances, votes=2)
    for shard in ("1/2", "2/2"):
        annotate(utterances, [scripted], tmp_path / "shards", AnnotateSettings(shard=shard, injection=0))
        with Ledger.open(tmp_path / f"shards/ledger.{shard.replace('/', '-of-')}.sqlite") as ledger:
            ledger.write(trials=[Trial(1, "a", "answered", 11, 0.0, 0.0, 0.0, 0.5, 0.0)])
    merge([tmp_path / "shards"], tmp_path / "merged")
    with Ledger.look(tmp_path / "merged/ledger.sqlite") as ledger:
        assert ledger.tried_out() == (22, 1.0)
        assert ledger.spent() == 1.0


@pytest.mark.parametrize("seed", range(3))
def test_a_trial_is_billed_once_in_its_latest_state_whatever_copies_and_merges_have_it(
    seed: int, tmp_path: Path
) -> None:
    """Random histories of two ledgers that probe servers, are killed, copied and merged meanwhile."""
    draw = np.random.default_rng(seed)
    places = [tmp_path / name / "ledger.sqlite" for name in ("a", "b")]
    known: dict[Path, dict[tuple[str, int], tuple[int, float]]] = {place: {} for place in places}
    written: dict[tuple[str, int], Trial] = {}
    for step in range(16):
        place = places[draw.integers(2)]
        ledger = place.parent.name
        if draw.random() < 0.3:  # a copy, or a merge of two
            sources = [list(known)[number] for number in draw.integers(len(known), size=draw.integers(1, 3))]
            made = tmp_path / f"made{step}" / "ledger.sqlite"
            known[made] = _latest([known[source] for source in sources])
            with Ledger.open(made) as merged:
                for source in filter(Path.exists, sources):
                    merged.take(source)
            continue
        with Ledger.open(place) as opened:  # what was in flight when it was closed was killed
            for key, (state, price) in known[place].items():
                known[place][key] = max(state, 1), price
            for number in range(1, int(draw.integers(1, 4))):
                key = ledger, step * 10 + number
                written[key] = Trial(key[1], ledger, "in flight", 1, 0.0, 0.0, 0.0, 8.0, float(key[1]) + 0.25)
                opened.write(trials=[written[key]])
                known[place][key] = 0, 8.0
                if draw.random() < 0.5:
                    price = float(draw.integers(1, 6))
                    opened.write(trials=[written[key]._replace(state="answered", price=price)])
                    known[place][key] = 2, price
    there = [place for place in known if place.exists()]
    with Ledger.open(tmp_path / "all" / "ledger.sqlite") as ledger_of_all:
        for number in draw.permutation(len(there)):
            ledger_of_all.take(there[number])
        billed = ledger_of_all.tried_out()
    expected = _latest([known[place] for place in there])
    assert billed == (len(expected), sum(price for _, price in expected.values()))


def _latest(several: list[dict[tuple[str, int], tuple[int, float]]]) -> dict[tuple[str, int], tuple[int, float]]:
    return {
        key: max(known[key] for known in several if key in known) for key in {key for known in several for key in known}
    }


def test_a_merge_that_goes_on_keeps_the_votes_of_the_earlier_one(corpus: Make, annotator: Make, tmp_path: Path) -> None:
    utterances = corpus(12)
    panel = [annotator(utterances, votes=2, price=PRICE)]
    whole = annotate(utterances, panel, tmp_path / "whole", AnnotateSettings())
    parts = [tmp_path / f"part{number}" for number in (1, 2, 3)]
    for number, part in enumerate(parts, 1):
        annotate(utterances, panel, part, AnnotateSettings(shard=f"{number}/3"))
    merged = tmp_path / "merged"
    first = merge(parts[:2], merged)
    assert first.findings.counts() == {"shard_missing": 1}
    assert "3/3" in first.findings.frame["message"][0]
    with pytest.raises(InputError, match="of an earlier merge"):
        merge(parts[2:], merged)
    assert status(merged)[0].planned == len(first.votes)
    assert Votes.read(merged).frame.equals(first.votes.frame)
    second = merge([merged, parts[2]], merged)
    assert second.votes.frame.equals(whole.votes.frame)
    assert not len(second.findings)
    assert status(merged)[0].price == pytest.approx(whole.spent.price)
    assert merge([merged], merged).votes.frame.equals(whole.votes.frame)
    assert sorted(path.name for path in merged.iterdir()) == [
        "findings.parquet", "ledger.journal", "ledger.lock", "ledger.sqlite", "votes.parquet",
    ]  # fmt: skip


def test_shards_of_one_folder_are_merged_into_it_as_often_as_asked(
    corpus: Make, annotator: Make, tmp_path: Path
) -> None:
    utterances = corpus(9)
    panel = [annotator(utterances, votes=2, price=PRICE)]
    whole = annotate(utterances, panel, tmp_path / "whole", AnnotateSettings())
    shared = tmp_path / "shared"
    for number in (1, 2):
        annotate(utterances, panel, shared, AnnotateSettings(shard=f"{number}/2"))
    with pytest.raises(InputError, match=r"has no votes\.parquet.*merge") as refused:
        table_in(shared, "votes")
    assert "merge" in refused.value.fix
    for _ in range(2):
        assert merge([shared], shared).votes.frame.equals(whole.votes.frame)
    assert table_in(shared, "votes") == shared / "votes.parquet"


def test_votes_of_other_shards_in_a_folder_are_not_paid_again(corpus: Make, annotator: Make, tmp_path: Path) -> None:
    utterances, folder = corpus(9), tmp_path / "my shards"
    panel = [annotator(utterances, votes=2, price=PRICE)]
    annotate(utterances, panel, folder, AnnotateSettings(shard="1/2"))
    files = sorted(path.name for path in folder.iterdir())
    for shard, fix in ((None, f"alm-proxies merge '{folder}' -o '{folder}'"), ("1/3", "--shard I/2")):
        with pytest.raises(InputError) as refused:
            annotate(utterances, panel, folder, AnnotateSettings(shard=shard))
        assert fix in str(refused.value.fix)
    annotate(utterances, [annotator(utterances, "another", votes=2)], folder, AnnotateSettings(shard="1/3"))
    (folder / "ledger.1-of-3.sqlite").unlink()
    assert set(files) <= {path.name for path in folder.iterdir()}
    merge([folder], folder)
    annotate(utterances, panel, folder, AnnotateSettings(shard="2/2"))
    merge([folder], folder)
    whole = annotate(utterances, panel, folder, AnnotateSettings())
    assert (whole.by_status, whole.spent.cast_now) == ({"ok": 18}, 0)
    other = tmp_path / "whole"
    annotate(utterances, panel, other, AnnotateSettings())
    with pytest.raises(InputError, match="requested again") as refused:
        annotate(utterances, panel, other, AnnotateSettings(shard="1/2"))
    assert "--shard" in str(refused.value.fix)


def test_a_copy_of_a_ledger_is_not_paid_again_in_any_order(corpus: Make, annotator: Make, tmp_path: Path) -> None:
    utterances = corpus(10)
    lenient = AnnotateSettings.model_validate({"stop": {"failed": 1.0}})
    broken = annotator(utterances, votes=2, price=PRICE, serve={"faults": {"server_error": 0.5}})
    first = annotate(utterances, [broken], tmp_path / "a", lenient)
    assert first.by_status["failed"] > 0
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    then = annotate(utterances, [annotator(utterances, votes=2, price=PRICE)], tmp_path / "a", lenient)
    assert set(then.by_status) == {"ok"}
    for order in (["a", "copy"], ["copy", "a"], ["a", "copy", "a"]):
        merged = merge([tmp_path / name for name in order], tmp_path / "merged")
        assert merged.votes.frame.equals(then.votes.frame)
        assert status(tmp_path / "merged")[0].price == pytest.approx(then.spent.price)
    again = merge([tmp_path / "merged", tmp_path / "a"], tmp_path / "again")
    assert again.votes.frame.equals(then.votes.frame)
    assert status(tmp_path / "again")[0].price == pytest.approx(then.spent.price)


def test_merges_of_merges_bill_every_answer_once_in_any_order(corpus: Make, annotator: Make, tmp_path: Path) -> None:
    utterances = corpus(12)
    lenient = AnnotateSettings.model_validate({"stop": {"failed": 1.0, "refused": 1.0}})
    spent = 0.0
    for name, faults in (("a", {"server_error": 0.5, "refused": 0.2}), ("b", {"server_error": 0.4, "refused": 0.3})):
        broken = annotator(utterances, votes=2, price=PRICE, serve={"faults": faults})
        done = annotate(utterances, [broken], tmp_path / name, lenient)
        assert {"ok", "failed"} <= set(done.by_status)
        spent += done.spent.price
    shutil.copytree(tmp_path / "b", tmp_path / "copy")
    merge([tmp_path / "a", tmp_path / "b"], tmp_path / "ab")
    merge([tmp_path / "copy", tmp_path / "a"], tmp_path / "ba")
    for order in permutations(("a", "b", "copy", "ab", "ba"), 2):
        if set(order) <= {"b", "copy"}:
            continue
        merge([tmp_path / name for name in order], tmp_path / "merged")
        with Ledger.look(tmp_path / "merged/ledger.sqlite") as ledger:
            assert ledger.spent() == pytest.approx(spent), order
        with closing(sqlite3.connect(tmp_path / "merged/ledger.sqlite")) as sql:
            answers = "SELECT annotator, utterance, draw, at FROM {}"
            rows = [row for table in ("vote", "set_aside") for row in sql.execute(answers.format(table))]
        assert len(rows) == len(set(rows)) == 48, order


def test_a_vote_that_no_longer_holds_does_not_come_back_from_a_copy_or_an_earlier_merge(
    corpus: Make, annotator: Make, tmp_path: Path
) -> None:
    utterances = corpus(6)
    panel = [annotator(utterances, votes=1, price=PRICE)]
    annotate(utterances, panel, tmp_path / "a", AnnotateSettings())
    merged = tmp_path / "merged"
    merge([tmp_path / "a"], merged)
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    with Ledger.open(tmp_path / "a/ledger.sqlite") as ledger:
        ((name, card),) = ledger.cards().items()
        (changed,) = ledger.utterance_ids(["sim/00002"])
        assert ledger.set_aside_changed([(ledger.annotator_id(card, name), int(changed))]) == 1
    for order in (["a", "copy"], ["copy", "a"], ["merged", "a"], ["a", "merged"]):
        done = merge([tmp_path / name for name in order], tmp_path / "again")
        assert done.findings.counts() == {"not_cast": 1}
        assert status(tmp_path / "again")[0].cast == {"ok": 5}
        assert status(tmp_path / "again")[0].price == pytest.approx(status(tmp_path / "copy")[0].price)
    merge([tmp_path / "a"], merged)
    assert status(merged)[0].cast == {"ok": 5}
    then = annotate(utterances, panel, tmp_path / "a", AnnotateSettings())
    for order in (["a", "copy"], ["copy", "a"]):
        assert merge([tmp_path / name for name in order], tmp_path / "again").votes.frame.equals(then.votes.frame)
        assert status(tmp_path / "again")[0].price == pytest.approx(then.spent.price)


def test_the_bill_of_a_part_without_votes_stays_in_a_merge_that_goes_on(
    corpus: Make, annotator: Make, tmp_path: Path
) -> None:
    utterances = corpus(8)
    lenient = AnnotateSettings.model_validate({"stop": {"failed": 1.0}})
    merged, parts = tmp_path / "merged", [tmp_path / "part1", tmp_path / "part2"]
    broken = annotator(utterances, votes=1, price=PRICE, serve={"faults": {"server_error": 1.0}})
    sound = annotator(utterances, votes=1, price=PRICE)
    for number, one in ((1, sound), (2, broken)):
        settings = lenient.model_copy(update={"shard": f"{number}/2"})
        annotate(utterances, [one], parts[number - 1], settings)
    merge(parts, merged)
    before = status(merged)[0]
    again = merge([merged, parts[0]], merged)
    now = status(merged)[0]
    assert (now.planned, now.cast) == (before.planned, before.cast)
    assert now.price == pytest.approx(before.price)
    assert "shard_missing" not in again.findings.counts()


def test_requests_in_flight_are_billed_as_they_ended_whatever_merges_have_them_in_any_order(tmp_path: Path) -> None:
    own, early, late = (tmp_path / name / "ledger.sqlite" for name in ("own", "early", "late"))

    def bill(*places: Path, into: Path) -> float:
        with Ledger.open(into) as merged:
            for place in places:
                merged.take(place)
            return merged.spent()

    with Ledger.open(own) as ledger:
        ledger.write(sending=[Sending(1, 1, 8.0), Sending(2, 1, 4.0)])
        assert bill(own, into=early) == 12.0
        assert bill(early, own, into=tmp_path / "both/ledger.sqlite") == 12.0
        ledger.write(arrived=[1], lost=[Lost(1, 1, 3.0, "called off")])
        assert bill(own, into=late) == 7.0
    Ledger.open(own).close()  # which books what was in flight at its most
    for number, order in enumerate(permutations([own, early, late])):
        assert bill(*order, into=tmp_path / f"{number}/ledger.sqlite") == 7.0, order


def test_a_merge_beside_shards_that_went_on_counts_for_nothing_and_one_with_more_counts(
    corpus: Make, annotator: Make, tmp_path: Path
) -> None:
    utterances = corpus(8)
    panel = [annotator(utterances, votes=1, price=PRICE)]
    for votes in (1, 2):
        for number in (1, 2):
            annotate(utterances, panel, tmp_path / "out", AnnotateSettings(shard=f"{number}/2", votes=votes))
        if votes == 1:
            merge([tmp_path / "out"], tmp_path / "out")
    merged = tmp_path / "out/ledger.sqlite"
    shards = [tmp_path / f"out/ledger.{number}-of-2.sqlite" for number in (1, 2)]
    assert repeated([merged, *shards]) == {merged}
    assert repeated([merged, shards[0]]) == frozenset()
    merge([tmp_path / "out"], tmp_path / "out")


def test_a_merged_ledger_with_missing_votes_names_its_shards_and_no_command_to_repeat(
    corpus: Make, annotator: Make, tmp_path: Path
) -> None:
    utterances = corpus(8)
    panel = [annotator(utterances, votes=1, price=PRICE)]
    annotate(utterances, panel, tmp_path / "out", AnnotateSettings(budget=0.5, injection=0))
    merge([tmp_path / "out"], tmp_path / "merged")
    (own,), (merged,) = status(tmp_path / "out"), status(tmp_path / "merged")
    assert (own.merged, merged.merged, own.waiting) == (False, True, merged.waiting)
    assert merged.waiting > 0
    assert [f"{now}".count("same command") for now in (own, merged)] == [1, 0]
