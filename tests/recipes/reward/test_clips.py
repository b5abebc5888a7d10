"""Videos read ahead once, within a budget, and batches in which each stands once."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from recipes.reward_worlds import PER_PROMPT, PROMPTS, bright_data, write_clips
from reelign.errors import ReelignError
from reelign.recipes.reward.clips import ClipStore
from reelign.recipes.reward.stream import RewardStream
from reelign.rewards.qwen_vision import ClipSettings, PatchLayout, look

LOOK = partial(look, settings=ClipSettings(fps=4, min_pixels=784, max_pixels=784), layout=PatchLayout())
CLIP_BYTES = 4 // 2 * 4 * 3 * 2 * 14 * 14
VIDEOS = len(PROMPTS) * PER_PROMPT


def test_a_video_is_read_once_while_it_is_kept_and_again_when_it_is_not(tmp_path: Path) -> None:
    (a, b, c, d), *_ = write_clips(tmp_path)
    with ClipStore(LOOK, budget_bytes=2 * CLIP_BYTES, workers=2) as store:
        first = store.take([a, b, a])
        assert store.read == 2
        assert torch.equal(first[0].pixels, first[2].pixels)
        assert store.held_bytes == 2 * CLIP_BYTES
        store.take([b, c])  # a goes, which was used longest ago
        store.take([b, c])
        assert store.read == 3
        store.take([a])
        assert store.read == 4
        # What one batch needs is kept whatever the budget.
        assert len(store.take([a, b, c, d])) == 4


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with ClipStore(LOOK, budget_bytes=1e6, workers=1) as store:
        for name in ("broken.mp4", "gone.mp4"):
            with pytest.raises(ReelignError, match=name):
                store.take([tmp_path / name])


@pytest.mark.parametrize("mixing", ["groups", "pairs"])
def test_an_epoch_has_every_pair_once_and_reads_every_video_once(tmp_path: Path, mixing: str) -> None:
    data = bright_data(tmp_path)
    kept = (PER_PROMPT + 4) * CLIP_BYTES if mixing == "groups" else 1e9
    with ClipStore(LOOK, budget_bytes=kept, workers=2) as store:
        stream = RewardStream(data, store, batch_size=4, seed=0, mixing=mixing)  # type: ignore[arg-type]
        batches = [stream.next_batch() for _ in range(len(data) // 4)]
        names = [name for batch in batches for name in batch.names]
        assert len(names) == len(set(names)) == len(data)
        # The next epoch's first batch has been asked for already.
        assert store.read <= VIDEOS + 8
        if mixing == "pairs":
            assert store.read == VIDEOS
    for batch in batches:
        assert len(batch.seen) == len(batch.pairs.unique()) == len(batch.prompts)
    shared = sum(len(batch.seen) for batch in batches)
    if mixing == "groups":
        assert shared < 8 * len(batches)


def test_batches_follow_from_the_seed_and_the_cursor(tmp_path: Path) -> None:
    data = bright_data(tmp_path)
    with ClipStore(LOOK, budget_bytes=1e9, workers=1) as store:
        streams = [RewardStream(data, store, batch_size=5, seed=seed, mixing="groups") for seed in (0, 0, 1)]
        streams[1].load_state_dict({"step": 7})
        for _ in range(7):
            streams[0].next_batch()
        assert streams[0].next_batch().names == streams[1].next_batch().names
        assert streams[0].state_dict() == streams[1].state_dict()
        assert (
            streams[2].next_batch().names
            != RewardStream(data, store, batch_size=5, seed=0, mixing="groups").next_batch().names
        )


def test_a_batch_cut_into_parts_says_the_same(tmp_path: Path) -> None:
    data = bright_data(tmp_path)
    with ClipStore(LOOK, budget_bytes=1e9, workers=1) as store:
        batch = RewardStream(data, store, batch_size=6, seed=0, mixing="groups").next_batch()
    parts = [batch.rows(0, 4), batch.rows(4, 8)]
    assert [len(part.pairs) for part in parts] == [4, 2]
    for part, start in zip(parts, (0, 4), strict=True):
        for row, (a, b) in enumerate(part.pairs.tolist()):
            whole_a, whole_b = batch.pairs[start + row].tolist()
            assert part.seen[a] is batch.seen[whole_a]
            assert part.seen[b] is batch.seen[whole_b]
    torch.testing.assert_close(torch.cat([part.labels for part in parts]), batch.labels)
