from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoConfig

from alm_proxies.errors import SettingsError
from alm_proxies.models.families import FAMILIES, family_of, loader_of, notes_on


def test_of_a_model_that_also_speaks_the_part_that_listens_is_loaded():
    whole = AutoConfig.for_model("qwen2_5_omni")
    assert family_of(whole) == "qwen2_5_omni_thinker"
    assert loader_of(whole).__name__ == "Qwen2_5OmniThinkerForConditionalGeneration"
    assert notes_on(family_of(whole)) == ()


def test_a_family_that_nobody_tried_is_said_to_be():
    config = AutoConfig.for_model("voxtral")
    assert family_of(config) not in FAMILIES
    assert notes_on(family_of(config)) == ("models of the family voxtral have not been tested here",)


def test_a_model_without_a_class_is_one_sentence():
    config = AutoConfig.for_model("wav2vec2", architectures=["NoSuchModel"])
    with pytest.raises(SettingsError, match="no class for 'wav2vec2'"):
        loader_of(config)


def test_the_page_about_engines_names_every_family_that_is_claimed():
    page = (Path(__file__).parents[2] / "docs/engines.md").read_text(encoding="utf-8")
    assert [family for family in FAMILIES if f"| `{family}` |" not in page] == []
