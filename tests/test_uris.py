"""Addresses: distinguished from paths, and never shown with the secrets in them."""

from __future__ import annotations

import logging
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alm_proxies.errors import InputError, TableError
from alm_proxies.finding import Finding
from alm_proxies.log import LOG, logging_to
from alm_proxies.tables import Utterances
from alm_proxies.uris import has_secret, is_inner, is_loopback, is_remote, redacted, remote_of, without_secrets

SECRET = {
    "https://ann:open.sesame@host/a.wav": "https://host/a.wav",
    "https://open.sesame@host/a.wav": "https://host/a.wav",
    "https://ann:open/sesame@host/a.wav": "https://host/a.wav",
    "s3://AKIA1:open.sesame@bucket/a.wav": "s3://bucket/a.wav",
    "https://host/a.wav?X-Amz-Signature=sesame&X-Amz-Credential=AKIA1": "https://host/a.wav",
    "https://host/a.wav?id=7&sig=sesame": "https://host/a.wav?id=7",
    "https://host/a.wav?id=7&access_token=sesame#t=1": "https://host/a.wav?id=7#t=1",
    "https://host/a.wav?AWSAccessKeyId=AKIA1&Signature=sesame&v=2": "https://host/a.wav?v=2",
    "https://host/a.wav?api%5Fkey=sesame": "https://host/a.wav",
}
PLAIN = [
    "https://host:8080/a@b/c.wav",
    "https://host/a.wav?id=7&v=2",
    "s3://bucket/a@b:c/d e.wav",
    "s3://bucket/a.wav?versionId=abc",
    "abfs://container@account.dfs.core.windows.net/a.wav",
    "http://[::1]:8000/a.wav",
    "gs://bucket/#1/a.wav",
]


@pytest.mark.parametrize(("uri", "clean"), SECRET.items())
def test_passwords_keys_and_signatures_are_found_left_out_and_hidden(uri: str, clean: str) -> None:
    assert has_secret(uri)
    assert without_secrets(uri) == clean
    assert not has_secret(clean)
    for text in (uri, f"it is at '{uri}', they say", f'{{"audio": "{uri}"}}', uri.replace("://", ":/"), f"x,{uri}"):
        shown = redacted(text)
        assert "sesame" not in shown
        assert "AKIA1" not in shown
        assert "***" in shown


@pytest.mark.parametrize("uri", PLAIN)
def test_other_addresses_stay_as_they_are(uri: str) -> None:
    assert not has_secret(uri)
    assert without_secrets(uri) == uri
    assert redacted(f"see {uri} there") == f"see {uri} there"


def test_an_address_inside_an_address_is_hidden_too() -> None:
    assert "sesame" not in redacted("https://h/go?to=https://ann:sesame@host/a.wav")
    assert "sesame" not in redacted("https://h/a.wav?id=1,https://ann:sesame@host/b.wav")


@given(st.text())
def test_any_text_without_a_secret_is_shown_as_it_is(text: str) -> None:
    if ":/" not in text:
        assert redacted(text) == text
    assert redacted(redacted(text)) == redacted(text)


def test_addresses_are_told_from_paths_also_as_pathlib_writes_them() -> None:
    for uri in ("s3://bucket/a.wav", "https://host/a%20b.wav?id=1", "az://box/a.wav"):
        assert is_remote(uri)
        assert remote_of(uri) == uri
        assert remote_of(Path(uri)) == uri
    assert remote_of("ftp://host/a.wav") == "ftp://host/a.wav"
    for path in ("a.wav", "/tmp/s3:/a.wav", "file:///tmp/a.wav", "c:/a.wav", "s3:", "s3:/", "note: s3://x"):
        assert remote_of(path) is None


def test_which_hosts_are_on_this_machine_or_in_this_network() -> None:
    assert is_loopback("http://127.3.2.1:80/v1")
    assert is_loopback("http://localhost/v1")
    assert not is_loopback("http://localhost.example.org/v1")
    assert is_inner("http://169.254.169.254/latest/meta-data")
    assert is_inner("http://10.0.0.7/a.wav")
    assert is_inner("http://[fe80::1]/a.wav")
    assert not is_inner("https://example.org/a.wav")
    assert not is_inner("https://8.8.8.8/a.wav")


def test_errors_findings_and_logs_hide_them(tmp_path: Path) -> None:
    uri = "https://ann:sesame@host/a.wav?sig=sesame"
    error = InputError(f"{uri} is bad", where=uri, fix=f"Look at {uri}.")
    finding = Finding("read", "missing", f"{uri} is bad", f"Look at {uri}.", where=uri)
    assert "sesame" not in f"{error} {error.args} {error.message} {error.where} {error.fix} {finding}"
    with logging_to(tmp_path / "log.txt"):
        LOG.info("read table %s", uri)
        LOG.log(logging.WARNING, "and %s", uri)
    text = (tmp_path / "log.txt").read_text()
    assert text.count("https://***@host/a.wav?sig=***") == 2
    assert "sesame" not in text


def test_a_table_with_a_secret_in_an_address_is_refused_without_showing_it() -> None:
    frame = pl.DataFrame({"utterance_id": ["a", "b"], "audio": ["s3://bucket/a.wav", "https://ann:sesame@host/b.wav"]})
    with pytest.raises(TableError, match=r"row 2.*https://\*\*\*@host/b.wav.*has a password") as refused:
        Utterances.of(frame)
    assert "sesame" not in str(refused.value)
    assert Utterances.of(frame.head(1)).frame["audio"].to_list() == ["s3://bucket/a.wav"]
