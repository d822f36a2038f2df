"""What is known of remote recordings before they are fetched, and what is missing for it."""

from __future__ import annotations

import os
import sys

import polars as pl
import pytest
from web_server import Web, serving, tone

from alm_proxies.audio.clip import open_clip
from alm_proxies.audio.looking import look_at_all
from alm_proxies.audio.recipe import Sounds
from alm_proxies.errors import MissingExtraError
from alm_proxies.remote import copies
from alm_proxies.tables import Utterances


@pytest.mark.parametrize(("uri", "package", "extra"), [("s3://b/a.wav", "s3fs", "s3"), ("gs://b/a.wav", "gcsfs", "gs")])
def test_a_missing_package_is_one_sentence_that_names_the_extra(
    uri: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    table = Utterances.of(pl.DataFrame({"utterance_id": ["a"], "audio": [uri]}))
    for ask in (lambda: open_clip(uri), lambda: Sounds(table, stage="test"), lambda: look_at_all(table, quiet=True)):
        with pytest.raises(MissingExtraError, match=rf"{package}.*pip install 'alm-proxies\[{extra}\]'"):
            ask()


def test_a_store_that_cannot_be_asked_states_what_it_stated_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "_TO_LOOK", 2.0)
    with serving() as web:
        fetched, looked_at = web.put("ok/a.wav", tone()), web.put("ok/b.wav", tone(300))
        os.close(copies.open_copy(fetched, keep=True).handle)
        uris = [fetched, looked_at, web.url("ok/none.wav")]
        before = copies.known_by_store(uris)
    assert before[0] != before[1]
    assert before[2] is None
    monkeypatch.setattr(copies, "_known", copies._Known())
    assert copies.known_by_store(uris) == [before[0], "", ""]


def test_a_check_looks_for_a_sample_of_remote_recordings_and_fetches_none(web: Web) -> None:
    uris = [web.put(f"ok/{n}.wav", tone(200 + n)) for n in range(100)]
    del web.files["0.wav"]
    table = Utterances.of(pl.DataFrame({"utterance_id": [f"{n:03d}" for n in range(100)], "audio": uris}))
    result = look_at_all(table, quiet=True)
    assert (result.recordings, result.remote, result.asked_for) == (0, 100, 25)
    assert [error.kind for error in result.unreached] == ["missing"]
    assert not result.all_useless
    assert list(result.facts()) == ["100 recordings are remote; 24 of 25 that were looked for are there"]
    assert "1 of 25 remote recordings that were looked for cannot be fetched" in next(result.sentences())
    assert {key.split()[0] for key in web.asked} == {"HEAD"}
