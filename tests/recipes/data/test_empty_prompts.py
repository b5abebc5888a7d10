"""Condition dropout: who loses a caption, and that nobody does by default."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from recipes.offline.test_align import SETTINGS, adapter, metrics
from recipes.offline.test_reference_cache import cache_of, count_forwards, stream
from reelign.generators import Generator, load_generator
from reelign.generators.base import Conditioning
from reelign.recipes.data.empty_prompts import EmptyPrompts, lost_by_seed
from reelign.recipes.offline.align import align
from reelign.recipes.settings import AlignSettings
from reelign.recipes.steps.pair import DPOStep
from reelign.records import Workspace
from reelign.training import LoRA, PairBatch, Policy, ShuffledStream

EMPTY = Conditioning({"prompt_embeds": torch.full((1, 2, 3), -1.0)})


def batches(share: float, number: int = 40) -> list[PairBatch]:
    plain = ShuffledStream(
        PairBatch,
        torch.zeros(10, 2, 1, 1, 1, 1),
        Conditioning({"prompt_embeds": torch.arange(10.0).reshape(10, 1, 1).expand(10, 2, 3)}),
        torch.arange(10),
        batch_size=5,
        seed=3,
    )
    forgetting = EmptyPrompts(plain, EMPTY, lost_by_seed(share))
    return [forgetting.next_batch() for _ in range(number)]


def test_the_share_loses_its_whole_caption_and_the_others_keep_theirs() -> None:
    rows = torch.cat([batch.conditioning["prompt_embeds"] for batch in batches(0.25)])
    lost = (rows == -1).all(dim=(1, 2))
    assert torch.equal(lost, (rows == -1).any(dim=1).any(dim=1))
    assert 0.15 < float(lost.float().mean()) < 0.35
    again = torch.cat([batch.conditioning["prompt_embeds"] for batch in batches(0.25)])
    assert torch.equal(rows, again)


def test_dropout_trains_another_adapter_and_resumes_as_one_run(
    judged: Workspace, tiny_wan_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = str(tiny_wan_folder)
    settings = replace(SETTINGS, empty_prompt_share=0.5)
    without = align(judged, load_generator(model), replace(SETTINGS, run="without"))
    whole = align(judged, load_generator(model), settings)
    assert metrics(without.folder)[0]["chosen_error"] != metrics(whole.folder)[0]["chosen_error"]
    half = replace(settings, run="half")
    with monkeypatch.context() as patch:
        patch.setattr("reelign.training.trainer.Trainer.verdict", lambda trainer: None)
        align(judged, load_generator(model), replace(half, trainer=replace(settings.trainer, steps=6)))
    config = judged.root / "runs" / "half" / "config.yaml"
    config.write_text(config.read_text().replace("steps: 6", "steps: 12"))
    align(judged, load_generator(model), half)
    one, two = adapter(whole.folder), adapter(judged.root / "runs" / "half")
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_known_reference_errors_are_those_under_the_same_prompt(tiny_wan: Generator, tmp_path: Path) -> None:
    """A visit loses its caption always or never, so that its reference error is paid once all the same."""
    settings = AlignSettings(batch_size=5, reference_slots=2, empty_prompt_share=0.5)
    policy = Policy(tiny_wan, LoRA(rank=4))
    cache = cache_of(policy, tmp_path, settings)
    empty = tiny_wan.encode_prompts([""])
    forgetting = EmptyPrompts(stream(policy), empty, lambda batch: cache.lost(batch.visits))
    step = DPOStep(settings.objective, settings, cache=cache)  # type: ignore[arg-type]
    first = [step.accumulate_gradients(policy, forgetting.next_batch()) for _ in range(2)]
    seen = count_forwards(policy)
    second = [step.accumulate_gradients(policy, forgetting.next_batch()) for _ in range(2)]
    assert seen["ungraded"] == 0
    # The policy is the reference still: under another prompt its errors would differ from the kept ones.
    assert all(row["margin"] == pytest.approx(0.0, abs=1e-7) for row in (*first, *second))
    assert 0 < int(cache.lost([(row, slot) for row in range(5) for slot in range(2)]).sum()) < 10
    assert cache.path != cache_of(policy, tmp_path, replace(settings, empty_prompt_share=0.0)).path


def test_a_share_of_all_is_refused() -> None:
    with pytest.raises(ValueError, match="empty_prompt_share must be a share"):
        AlignSettings(empty_prompt_share=1.0)
