"""What is refused of an online run before anything is sampled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reelign.errors import ReelignError
from reelign.generators.base import Generator
from reelign.objectives import DPO, KTO, check_schedule
from reelign.recipes.data.real_clips import check_real
from reelign.recipes.data.shared_prompts import training_prompts, warn_of_shared
from reelign.recipes.latent_reward.feedback import check_blocks
from reelign.recipes.offline.samples import check_precision
from reelign.recipes.online.feedback import LATENT, Feedback, check_feedback
from reelign.recipes.online.settings import OnlineSettings
from reelign.recipes.steps.draws import check_sigma_range
from reelign.records import Workspace
from reelign.rewards.opening import check_reward
from reelign.training.asked import check_images
from reelign.training.lora import check_targets
from reelign.training.reference_policy import Gated
from reelign.training.trackers import check_trackers


def check_online(workspace: Workspace, generator: Generator, settings: OnlineSettings, limit: int | None) -> list[str]:
    """The prompts trained on, once all that can be refused before anything is loaded is not.

    Raises:
        ReelignError: as `align_online`.
    """
    check_trackers(settings.trackers)
    check_feedback(settings.judge, feedback_settings(settings))
    if settings.judge.startswith(LATENT):
        check_blocks(Path(settings.judge.removeprefix(LATENT)), settings)
    objective = settings.objective
    if isinstance(objective, DPO | KTO):
        check_schedule(objective.schedule, generator.path.prediction)
    check_sigma_range(settings, generator)
    check_precision(generator)
    if settings.lora is not None:
        check_targets(generator, settings.lora)
    if isinstance(settings.reference, Gated) and not settings.watch.held_out:
        raise ReelignError(
            "A gated reference moves by judges that training does not see, and none are named.",
            "Name them in watch.held_out, or take another reference: reference.name=curriculum.",
        )
    if settings.watch.every or isinstance(settings.reference, Gated):
        for name in (*settings.watch.held_out, *settings.watch.proxies):
            check_reward(name, **settings.watch.options.get(name, {}))
    prompts = training_prompts(workspace, limit)
    check_images(generator, prompts)
    if settings.anchors.real:
        check_real(generator, settings.real, settings.images)
    warn_of_shared(prompts, workspace.asked_in("held_out"))
    return prompts


def check_opened(settings: OnlineSettings, feedback: Feedback) -> None:
    """Refuse what only the open judge tells: a dimension that it lacks, or that it cannot judge beside the sampler."""
    settings.selection.of(feedback.dimensions)
    if (settings.overlap or settings.ahead) and not feedback.reads_pixels:
        raise ReelignError(
            f"{settings.judge} reads latents through the very denoiser that samples, and cannot judge beside it.",
            "Set overlap=false and ahead=false.",
        )


def feedback_settings(settings: OnlineSettings) -> dict[str, Any]:
    """What stands behind the prefixes of `settings.judge`."""
    return {"reward": settings.reward, "critic": settings.critic}
