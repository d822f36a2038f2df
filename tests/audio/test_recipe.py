from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import soundfile

from alm_proxies.about import About
from alm_proxies.audio.clip import Clip
from alm_proxies.audio.effects import EFFECTS, mix
from alm_proxies.audio.recipe import Recipe, Sounds, render
from alm_proxies.errors import InputError, SettingsError
from alm_proxies.tables import Utterances

RATE = 16000
EVERYTHING = [
    ["pitch", {"semitones": 1.0}],
    ["speed", {"factor": 1.05}],
    ["noise", {"snr": 20.0}],
    ["room", {"seconds": 0.3}],
    ["telephone", {}],
    ["mask_time", {"seconds": 0.1}],
    ["mask_frequency", {"octaves": 0.5}],
    ["shift", {"seconds": 0.05}],
    ["gain", {"decibels": -3.0}],
]


def voice(hertz: float, seconds: float = 1.0, seed: int = 0) -> np.ndarray:
    """Speech-like sound on the grid of 16 bits, the same on every machine."""
    time = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(hertz * (1 + 0.1 * np.sin(2 * np.pi * time))) / RATE
    sound = sum(np.sin(k * phase) / k for k in range(1, 12)) * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * time))
    breath = np.random.Generator(np.random.PCG64(seed)).random(len(time)) - 0.5
    return np.round((0.1 * sound + 0.01 * breath) * 32768) / 32768


def clip(hertz: float, seconds: float = 1.0) -> Clip:
    return Clip(voice(hertz, seconds).astype(np.float32), RATE)


def recipe(parents: list[list[Any]], effects: list[list[Any]] | None = None, seed: int = 7) -> dict[str, Any]:
    return {"parents": parents, "effects": effects or [], "seed": seed}


def test_a_recipe_has_one_spelling_with_its_defaults_filled_in() -> None:
    short = Recipe.read('{"seed": 7, "effects": [["noise", {"snr": 20}]], "parents": [["c/a", 1]]}')
    other = Recipe.read(recipe([["c/a", 1.0]], [["noise", {"colour": "pink", "snr": 20.0}]]))
    assert short == other
    assert short.written() == other.written()
    assert short.written() == ('{"effects":[["noise",{"colour":"pink","snr":20.0}]],"parents":[["c/a",1.0]],"seed":7}')
    assert Recipe.read(short.written()) == short


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("{", "not JSON"),
        ("[1, 2]", "."),
        (recipe([]), "parents"),
        (recipe([["c/a", 0.5]]), "sum to 1"),
        (recipe([["c/a", 0.5], ["c/a", 0.5]]), "listed twice"),
        (recipe([["c/a", 1.5], ["c/b", -0.5]]), "above 0"),
        (recipe([["c/a", 1.0]], seed=-1), "seed"),
        ({"parents": [["c/a", 1.0]]}, "seed"),
        (recipe([["c/a", 1.0]]) | {"colour": 1}, "colour"),
        (recipe([["c/a", 1.0]], [["gian", {}]]), "Did you mean 'gain'"),
        (recipe([["c/a", 1.0]], [["gain", {"decibel": 1}]]), "Did you mean 'decibels'"),
        (recipe([["c/a", 1.0]], [["gain", {"decibels": 99}]]), "less than or equal to 40"),
        (recipe([["c/a", 1.0]], [["gain"]]), "effects"),
    ],
)
def test_a_wrong_recipe_is_refused_with_its_place(written: Any, message: str) -> None:
    text = written if isinstance(written, str) else json.dumps(written)
    with pytest.raises(SettingsError, match=message) as raised:
        Recipe.read(text, where="c/a#2")
    assert raised.value.where == "c/a#2"
    assert raised.value.fix


def test_one_parent_without_effects_is_rendered_as_it_is() -> None:
    parent = clip(150)
    rendered = render(Recipe.read(recipe([["c/a", 1.0]])), [parent])
    np.testing.assert_array_equal(rendered.samples, parent.samples)
    assert rendered.rate == RATE


def test_parents_are_mixed_by_share_then_changed() -> None:
    first, other = clip(120, 1.0), clip(210, 1.4)
    rendered = render(Recipe.read(recipe([["c/a", 0.7], ["c/b", 0.3]], [["gain", {"decibels": -6}]])), [first, other])
    mixed = mix([first.samples.astype(np.float64), other.samples.astype(np.float64)], [0.7, 0.3], RATE)
    np.testing.assert_allclose(rendered.samples, mixed * 10 ** (-6 / 20), atol=1e-7)


def test_the_seed_decides_and_an_effect_behind_changes_nothing_before_it() -> None:
    noisy = [["noise", {"snr": 10}]]
    first = render(Recipe.read(recipe([["c/a", 1.0]], noisy, seed=1)), [clip(150)])
    other = render(Recipe.read(recipe([["c/a", 1.0]], noisy, seed=2)), [clip(150)])
    more = render(Recipe.read(recipe([["c/a", 1.0]], [*noisy, ["gain", {"decibels": -20}]], seed=1)), [clip(150)])
    assert not np.allclose(first.samples, other.samples)
    np.testing.assert_allclose(more.samples, first.samples / 10, atol=1e-7)


def test_what_is_rendered_never_exceeds_full_scale() -> None:
    rendered = render(Recipe.read(recipe([["c/a", 1.0]], [["gain", {"decibels": 40}]])), [clip(150)])
    assert np.max(np.abs(rendered.samples)) == pytest.approx(1.0)


def test_clips_that_do_not_fit_the_recipe_are_refused() -> None:
    two_parents = Recipe.read(recipe([["c/a", 0.5], ["c/b", 0.5]]))
    with pytest.raises(InputError, match="2 parents and 1"):
        render(two_parents, [clip(150)])
    with pytest.raises(InputError, match="16000, 8000 Hz"):
        render(two_parents, [clip(150), Clip(clip(150).samples, 8000)])


def everything() -> Clip:
    read = Recipe.read(recipe([["c/a", 0.6], ["c/b", 0.4]], EVERYTHING))
    return render(read, [clip(130, 1.0), clip(220, 1.2)])


def test_every_effect_renders_to_samples_known_beforehand() -> None:
    assert {name for name, _ in EVERYTHING} == set(EFFECTS)
    rendered = everything()
    assert len(rendered.samples) == KNOWN_LENGTH
    np.testing.assert_allclose(rendered.samples[1500::1500], KNOWN, atol=1e-6)


KNOWN_LENGTH = 15238
KNOWN = [0.0233941, 0.0037693, -0.0184722, 0.0637624, -0.0299351, 0.0232796, -0.0229114, -0.043175, 0.0583668, -0.0]


def test_another_process_with_other_threads_renders_the_same(tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import numpy as np, test_recipe\n"
        f"np.save({str(tmp_path / 'made.npy')!r}, test_recipe.everything().samples)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"OMP_NUM_THREADS": "2"})
    np.testing.assert_allclose(np.load(tmp_path / "made.npy"), everything().samples, atol=1e-6)


def table(rows: list[dict[str, Any]], root: Path) -> Utterances:
    return Utterances.of(pl.DataFrame(rows, infer_schema_length=None), about=About(version="0", roots={"c": str(root)}))


@pytest.fixture
def corpus(tmp_path: Path) -> Utterances:
    for name, hertz in (("a", 130), ("b", 220)):
        soundfile.write(tmp_path / f"{name}.wav", voice(hertz), RATE)
    (tmp_path / "broken.wav").write_bytes(b"RIFF")

    def row(name: str, audio: str | None = None, written: dict[str, Any] | None = None) -> dict[str, Any]:
        text = json.dumps(written) if written else None
        return {"utterance_id": f"c/{name}", "corpus": "c", "audio": audio, "recipe": text}

    child = recipe([["c/a", 0.5], ["c/b", 0.5]], [["speed", {"factor": 1.1}]])
    return table(
        [
            row("a", "a.wav"),
            row("b", f"file://{tmp_path}/b.wav"),
            row("broken", "broken.wav"),
            row("none"),
            row("far", "ftp://host/a.wav"),
            row("a#2", written=child),
            row("a#3", written=recipe([["c/a#2", 0.8], ["c/b", 0.2]], [["gain", {"decibels": -3}]])),
            row("broken#2", written=recipe([["c/broken", 1.0]])),
            row("broken#3", written=recipe([["c/broken#2", 1.0]])),
            row("orphan#2", written=recipe([["c/nobody", 1.0]])),
        ],
        tmp_path,
    )


def test_recorded_and_generated_utterances_open_by_id(corpus: Utterances) -> None:
    sounds = Sounds(corpus, stage="train")
    a, b, child, grandchild = (sounds.open(f"c/{name}").clip for name in ("a", "b", "a#2", "a#3"))
    assert a is not None
    assert b is not None
    assert child is not None
    assert grandchild is not None
    np.testing.assert_array_equal(a.samples, voice(130).astype(np.float32))
    assert child.duration == pytest.approx(1.0 / 1.1, abs=1e-3)
    expected = render(Recipe.read(corpus.frame.row(by_predicate=pl.col("utterance_id") == "c/a#3")[-1]), [child, b])
    np.testing.assert_array_equal(grandchild.samples, expected.samples)


def test_what_cannot_be_opened_or_rendered_is_a_finding(corpus: Utterances) -> None:
    sounds = Sounds(corpus, stage="train")
    kinds = {}
    for opened in sounds.ahead(threads=2, ahead=3):
        kinds[opened.utterance_id] = [finding.kind for finding in opened.findings]
        assert (opened.clip is None) == bool(opened.findings)
        assert all(finding.utterance_id == opened.utterance_id for finding in opened.findings)
    assert list(kinds) == corpus.frame["utterance_id"].to_list()
    assert {name: kind for name, kind in kinds.items() if kind} == {
        "c/broken": ["truncated"],
        "c/none": ["no_audio"],
        "c/far": ["remote_audio"],
        "c/broken#2": ["parent_failed"],
        "c/broken#3": ["parent_failed"],
        "c/orphan#2": ["parent_failed"],
    }
    assert "broken.wav" in str(sounds.open("c/broken#3").findings[0].where)


def test_only_the_utterances_asked_for_are_opened_in_the_order_asked(corpus: Utterances) -> None:
    opened = list(Sounds(corpus, stage="train").ahead(["c/a#2", "c/a", "c/a#2"]))
    assert [item.utterance_id for item in opened] == ["c/a#2", "c/a", "c/a#2"]


def test_a_recipe_that_leads_back_to_itself_is_refused(tmp_path: Path) -> None:
    rows = [
        {"utterance_id": "c/a#2", "corpus": "c", "recipe": json.dumps(recipe([["c/b#2", 1.0]]))},
        {"utterance_id": "c/b#2", "corpus": "c", "recipe": json.dumps(recipe([["c/a#2", 1.0]]))},
    ]
    with pytest.raises(SettingsError, match="c/a#2 of c/b#2 of c/a#2"):
        Sounds(table(rows, tmp_path), stage="train").open("c/a#2")
