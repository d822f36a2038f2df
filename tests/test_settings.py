from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator

from alm_proxies.errors import SettingsError
from alm_proxies.settings import Layer, read_settings, settings_from


class Source(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    corpus: str
    modality: str = "voice"


class File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    seed: int = Field(0, ge=0)
    read: tuple[Source, ...] = ()
    source: Source | None = None

    @model_validator(mode="after")
    def _lucky(self) -> "File":
        if self.seed == 13:
            raise ValueError("an unlucky seed: choose another")
        return self


def refusal(tmp_path: Path, text: str) -> str:
    path = tmp_path / "file.toml"
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        read_settings(path, File)
    return str(caught.value).replace(str(tmp_path), "")


def test_what_is_wrong_with_the_whole_is_said_without_repeating_the_whole(tmp_path: Path) -> None:
    assert refusal(tmp_path, "seed = 13\n") == "/file.toml: an unlucky seed: choose another."


def test_an_unknown_key_of_a_flag_is_named_with_the_nearest() -> None:
    with pytest.raises(SettingsError) as refused:
        settings_from(File, Layer({"source": {"corpus": "x", "modalty": "face"}}, "flag", verb="read table"))
    assert str(refused.value).startswith("--source: unknown key 'modalty'. Did you mean 'modality'? Known here: ")


class Named(BaseModel):
    name: str = Field(default="x", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    small: str = Field(default="x", pattern=r"^[a-z0-9][a-z0-9_-]*$")
    proxy: str = Field(default="human", pattern=r"^(human|proxy:[A-Za-z0-9][A-Za-z0-9_.-]*)$")
    number: str = Field(default="1", pattern=r"^[0-9]+$")


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("name", "it may have the letters a to z, digits and _ . - only, and begins with a letter or digit"),
        ("small", "it may have the small letters a to z, digits and _ - only"),
        ("proxy", '"human" or "proxy:" and a name; a name may have the letters a to z'),
        ("number", "should match pattern '^[0-9]+$'"),
    ],
)
def test_what_a_name_may_have_is_said_in_words(tmp_path: Path, key: str, words: str) -> None:
    (tmp_path / "s.toml").write_text(f'{key} = "Mein Labor"\n')
    with pytest.raises(SettingsError) as refused:
        read_settings(tmp_path / "s.toml", Named)
    assert f"line 1: {key} = 'Mein Labor': " in str(refused.value)
    assert words in str(refused.value)


def test_a_right_file_becomes_its_model(tmp_path: Path) -> None:
    path = tmp_path / "file.toml"
    path.write_text('seed = 3\n[[read]]\ncorpus = "x"\n')
    assert read_settings(path, File) == File(seed=3, read=(Source(corpus="x"),))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("seed = 3\nsed = 4\n", ["/file.toml, line 2", "'sed'", "Did you mean 'seed'?"]),
        ('[[read]]\ncorpus = "x"\nmodalty = "face"\n', ["line 3", "'read.0.modalty'", "Did you mean 'modality'?"]),
        ('source = { corpus = "x", modalty = "face" }\n', ["line 1", "Did you mean 'modality'?"]),
        ('[[read]]\ncorpus = "x"\nseed = 4\n', ["line 3", "seed = ... belongs at the top of the file"]),
        ('[[read]]\ncorpus = "x"\nsource = { corpus = "x" }\n', ["line 3", "[source] is a table of its own"]),
        ('[source]\ncorpus = "x"\nread = []\n', ["line 3", "[[read]] is a list of its own"]),
        ("[[read]]\n", ["'read.0.corpus' is missing"]),
        ("seed = -1\n", ["line 1", "seed = -1", "greater than or equal to 0"]),
        ("seed = \n", ["line 1", "is not TOML"]),
        ("[a]\nb = 1\n[a]\n", ["line 3", "is not TOML", "[a] twice", "that table once"]),
        ("seed = 1\nseed = 2\n", ["line 2", "is not TOML", "that key once"]),
        ('seed = "C:\\Users"\n', ["line 1", "is not TOML", "single quotes"]),
        ('seed = "a\\votes"\n', ["line 1", "is not TOML", "single quotes"]),
        ('[read]\ncorpus = "x"\n', ["line 1", "read is a list", "Write [[read]] above each."]),
        ("read = 3\n", ["line 1", "read is a list", "Write read = [...]."]),
    ],
)
def test_a_wrong_file_is_refused_with_line_key_and_mend(tmp_path: Path, text: str, parts: list[str]) -> None:
    message = refusal(tmp_path, text)
    for part in parts:
        assert part in message
