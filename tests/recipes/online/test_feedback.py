"""What judges say of candidates as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from recipes.judges import Brightness, Hasty
from recipes.online_worlds import SAMPLING, Glance, Light
from reelign.errors import ReelignError
from reelign.generators import Generator
from reelign.generators.base import Conditioning
from reelign.recipes.online.counts import Clock
from reelign.recipes.online.feedback import Feedback, PanelFeedback, RewardFeedback, Shown, open_feedback
from reelign.recipes.sampling import Sampling
from reelign.records import Verdict
from reelign.rewards.compose import Composed, Part
from reelign.rewards.judging import RewardUse
from reelign.training.asked import Sides
from reelign.training.rollouts import Group, Rollout, Sampler

GROUPS = [Group("a red square", 0, [1, 2, 3]), Group("a disc", 1, [4, 5, 6])]


@pytest.fixture
def shown(tiny_wan: Generator) -> Shown:
    """Two groups of three random candidates."""
    how = Sampling.resolve(SAMPLING, tiny_wan)
    latents = torch.randn(2, 3, *tiny_wan.latent_shape(how.size), generator=torch.Generator().manual_seed(0))
    none = Conditioning({"none": torch.zeros(2, 1)})
    sampler = Sampler(how.size, how.steps, how.guidance_scale, Sides(none, none.take(torch.tensor([0]))), batch_size=2)
    return Shown(Rollout(GROUPS, latents), tiny_wan, sampler, how.fps, 0, Clock(torch.device("cpu")))


def test_every_candidate_is_decoded_and_scored_once_in_batches(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    own = type(shown.generator).decode

    def counted(self: Generator, latents: Tensor, **further: Any) -> Tensor:
        decoded.append(len(latents))
        return own(self, latents, **further)

    monkeypatch.setattr(type(shown.generator), "decode", counted)
    reward = Light()
    found = RewardFeedback(reward, RewardUse(batch_size=4)).scores(shown)
    assert decoded == [2, 2, 2]
    assert [shape[0] for shape in reward.shapes] == [4, 2]
    assert {name: tuple(values.shape) for name, values in found.items()} == {"first": (2, 3), "last": (2, 3)}
    pixels = own(shown.generator, shown.rollout.latents[1])
    torch.testing.assert_close(found["last"][1], pixels[:, -1].flatten(1).mean(dim=1))
    assert shown.clock.seconds.keys() == {"decode"}


def test_a_reward_that_reads_one_frame_gets_one_frame(shown: Shown) -> None:
    glance, light = Glance(), Light()
    found = RewardFeedback(glance, RewardUse()).scores(shown)
    assert glance.shapes == [(6, 1, 3, 16, 16)]
    torch.testing.assert_close(found["first"], RewardFeedback(light, RewardUse()).scores(shown)["first"])


def test_a_reward_that_normalises_by_group_sees_whole_groups(shown: Shown) -> None:
    light = Light()
    reward = Composed(parts=[Part(reward=light, weights={"first": 1.0}, normalise="group")])
    found = RewardFeedback(reward, RewardUse(batch_size=4)).scores(shown)
    assert [shape[0] for shape in light.shapes] == [3, 3]
    torch.testing.assert_close(found["overall"].mean(dim=1), torch.zeros(2), atol=1e-3, rtol=0)


def test_a_reward_s_dimensions_and_ties_are_those_asked_for() -> None:
    found = RewardFeedback(Light(), RewardUse(dimensions=("last",), tie=0.1))
    assert (found.dimensions, found.ties) == (("last",), {"last": 0.1})
    with pytest.raises(ReelignError, match="no dimension 'VQ'"):
        RewardFeedback(Light(), RewardUse(dimensions=("VQ",)))


def test_judges_that_compare_rank_a_group_by_wins_less_losses(shown: Shown) -> None:
    judge = Brightness()
    feedback: Feedback = PanelFeedback([judge])
    found = feedback.scores(shown)
    assert judge.asked == 6
    light = shown.videos().flatten(2).mean(dim=2)
    # Of three, the brightest wins twice, the next once, the last never: 2 of 2, 0 of 2, -2 of 2.
    assert torch.equal(found["VQ"], light.argsort(dim=1).argsort(dim=1) - 1.0)
    assert found["MQ"].tolist() == [[0.0] * 3] * 2


def test_a_comparison_without_a_verdict_counts_for_neither(shown: Shown) -> None:
    class Shy(Brightness):
        """Knows the first pair alone, and never MQ."""

        def compare(
            self, videos_a: Tensor, videos_b: Tensor, prompts: Sequence[str], *, generator: torch.Generator
        ) -> list[dict[str, Verdict]]:
            found = super().compare(videos_a, videos_b, prompts, generator=generator)
            return [{"VQ": found[0]["VQ"]}, {}, {}]  # pairs (0, 1), (0, 2), (1, 2)

    found = PanelFeedback([Shy()]).scores(shown)
    assert sorted(found["VQ"][0, :2].tolist()) == [-1.0, 1.0]
    assert found["VQ"][0, 2].isnan()
    assert found["MQ"].isnan().all()


def test_half_the_answers_are_refused(shown: Shown) -> None:
    with pytest.raises(ReelignError, match="2 answers on 3 pairs"):
        PanelFeedback([Hasty()]).scores(shown)


def test_what_is_not_finite_is_black_to_a_judge(shown: Shown) -> None:
    shown.rollout.latents[0, 1] = torch.nan
    assert shown.videos()[0, 1].eq(0).all()
    assert not shown.videos()[0, 0].eq(0).all()


def test_judges_are_found_by_name() -> None:
    settings = {"reward": RewardUse()}
    assert isinstance(open_feedback("reward:recipes.online_worlds:Light", settings), RewardFeedback)
    panel = open_feedback("spriteworld-people", settings)
    assert panel.dimensions == ("VQ", "MQ", "TA")
    with pytest.raises(ReelignError, match="no judge is called"):
        open_feedback("spriteworld-peple", settings)
