from __future__ import annotations

from pathlib import Path

import pytest
import torch
from forked import TORCH, Forked

from alm_proxies.models.speech_model import Answer, Heads, Shape
from alm_proxies.models.trained import TrainedFile, read_trained, whole_folder, write_trained_file

KILLED_AT = """
import os, signal, sys
from pathlib import Path
from alm_proxies.models.trained import TrainedFile, whole_folder, write_trained_file
new = TrainedFile(recipe="features", name="new", labels=("a", "b"))
seen, steps = 0, ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree")
def count(event, arguments):
    global seen
    if event in steps:
        seen += 1
        if seen == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        if -seen in (int(sys.argv[2]), int(sys.argv[2]) - 1):
            raise KeyboardInterrupt
sys.addaudithook(count)
with whole_folder(Path(sys.argv[1])) as partial:
    for name in "ab":
        (partial / name).write_text("new")
    write_trained_file(partial, new)
"""
EVERYTHING = {"attributes": True, "dirichlet": True, "auxiliary": 2, "raters": 3}


def heads(pooling: str, **more: object) -> Heads:
    torch.manual_seed(0)
    shape = Shape.model_validate({"width": 12, "layers": (0, 2), "labels": 4, "pooling": pooling, "hidden": 8, **more})
    return Heads(shape).eval()


def states(frames: int, seed: int = 0) -> list[torch.Tensor]:
    chance = torch.Generator().manual_seed(seed)
    return [torch.randn(2, frames, 12, generator=chance) for _ in range(3)]


@pytest.mark.parametrize("pooling", ["mean_deviation", "attention", "temporal"])
def test_padding_changes_no_answer(pooling: str) -> None:
    model = heads(pooling, **EVERYTHING)
    long = states(9)
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[1, 6:] = False
    with torch.inference_mode():
        together = model(long, mask)
        alone = model([state[1:, :6] for state in long], mask[1:, :6])
        noisy = [torch.where(mask[..., None], state, 100.0) for state in long]
        filled = model(noisy, mask)
    for padded, other, third in zip(together, alone, filled, strict=True):
        if padded.shape[0] == 2:
            torch.testing.assert_close(padded[1:], other, atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(padded, third, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("pooling", ["mean_deviation", "attention", "temporal"])
def test_every_part_learns(pooling: str) -> None:
    model = heads(pooling, **EVERYTHING)
    answer: Answer = model(states(7), torch.ones(2, 7, dtype=torch.bool))
    torch.stack([part.square().sum() for part in answer if part is not None]).sum().backward()
    without = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert without in ([], ["raters"])  # raters begin at 0, where their square has no slope


def test_the_parts_have_their_shapes_and_absent_ones_are_none() -> None:
    mask = torch.ones(2, 7, dtype=torch.bool)
    full, plain = heads("attention", **EVERYTHING)(states(7), mask), heads("attention")(states(7), mask)
    assert [tuple(part.shape) for part in full] == [(2, 4), (2,), (2, 3), (2, 3), (2, 2), (3, 4), (2, 24), (2, 24)]
    assert [part is None for part in plain] == [False, True, True, True, True, True, False, False]
    torch.testing.assert_close(full.log_alpha.exp().sum(-1), full.log_strength.exp())  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="Dirichlet"):
        _ = plain.log_alpha


def test_only_the_layers_named_are_mixed_by_their_shares() -> None:
    model = heads("mean_deviation")
    layers = states(5)
    other = [layers[0], torch.zeros_like(layers[1]), layers[2]]
    torch.testing.assert_close(model.frames(layers), model.frames(other))
    with torch.no_grad():
        model.mix.copy_(torch.tensor([50.0, -50.0]))
    torch.testing.assert_close(model.frames(layers), torch.nn.functional.layer_norm(layers[0], (12,)))


@pytest.mark.parametrize("pooling", ["mean_deviation", "attention"])
def test_heads_are_standardised_by_clips_and_begin_with_the_shares_of_the_labels(pooling: str) -> None:
    model = heads(pooling)
    chance = torch.Generator().manual_seed(1)
    common = 100 * torch.randn(12, generator=chance)  # what all clips share, before the layers' normalisation
    frames = [common + torch.randn(64, 5, 12, generator=chance) for _ in range(3)]
    mask = torch.ones(64, 5, dtype=torch.bool)
    shares = torch.tensor([0.4, 0.3, 0.2, 0.1])
    with torch.no_grad():
        model.standardise(model(frames, mask).pooled)
        model.start_at(shares)
        answer = model(frames, mask)
    torch.testing.assert_close(answer.logits.softmax(-1), shares.expand(64, 4))
    away = (answer.pooled - model.centre) / model.spread
    torch.testing.assert_close(away.mean(0), torch.zeros(24), atol=1e-3, rtol=0)
    torch.testing.assert_close(away.std(0, correction=0), torch.ones(24), atol=1e-3, rtol=0)


def test_a_dimension_that_is_the_same_in_all_clips_is_not_blown_up() -> None:
    model = heads("mean_deviation")
    pooled = torch.randn(64, 24, generator=torch.Generator().manual_seed(2))
    pooled[:, 3] = 7.0 + 1e-6 * pooled[:, 4]
    model.standardise(pooled)
    away = (pooled - model.centre) / model.spread
    assert away[:, 3].abs().max() < 0.01
    model.standardise(torch.full((4, 24), 2.0))
    assert torch.isfinite(model.spread).all()


def test_a_trained_folder_that_is_a_link_is_replaced_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "disk" / "big").mkdir(parents=True)
    (tmp_path / "disk" / "big" / "old").write_text("of an earlier training")
    (tmp_path / "model").symlink_to(tmp_path / "disk" / "big")
    with whole_folder(tmp_path / "model") as partial:
        (partial / "new").write_text("of this one")
    assert (tmp_path / "model").is_symlink()
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["new"]
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["big"]


@pytest.mark.parametrize("way", ["killed", "interrupted twice"])
def test_a_trained_folder_is_the_earlier_one_or_the_new_one_whenever_its_process_is(way: str, tmp_path: Path) -> None:
    contents, number, ended = set[tuple[str, ...]](), 0, -1
    while ended != 0:
        number += 1
        model = tmp_path / str(number) / "model"
        model.mkdir(parents=True)
        for name in "ab":
            (model / name).write_text("old")
        write_trained_file(model, TrainedFile(recipe="features", name="old", labels=("a", "b")))
        at = number if way == "killed" else -number
        with Forked("-c", KILLED_AT, str(model), str(at), imported=TORCH) as process:
            ended = process.wait(60.0)
        read = {read_trained(folder)[1].name for folder in (model, model.parent)}
        with pytest.raises(ZeroDivisionError), whole_folder(model):
            raise ZeroDivisionError
        contents.add((*(path.read_text() for path in sorted(model.glob("[ab]"))), *read))
        assert [path.name for path in model.parent.iterdir()] == ["model"]
    assert contents == {("old", "old", "old"), ("new", "new", "new")}
    assert number > 5
