"""What an objective trains on: which videos, what they are known by, and which data it cannot train on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch

from reelign.diffusion.seeds import generator_from
from reelign.errors import ReelignError
from reelign.generators.base import Generator
from reelign.objectives import DPO, KTO, RWR, SFT, check_schedule
from reelign.recipes.data.clips import Clip
from reelign.recipes.data.preferences import Candidate, PreferenceData, random_clips
from reelign.recipes.data.real_clips import check_real, real_content
from reelign.recipes.settings import AlignSettings
from reelign.recipes.steps.draws import check_sigma_range
from reelign.records import Workspace, content_key
from reelign.training.asked import check_images
from reelign.training.lora import check_targets

NAME_IMAGES = (
    "A workspace's prompts have them in a table with the columns text and image (reelign init FOLDER --prompts "
    "prompts.csv), files of pairs and labels in a column image; with images=first_frame labelled videos go on from "
    "their own first frames."
)


def data_key(settings: AlignSettings, data: PreferenceData) -> str:
    """Changes with what the objective looks at: pairs or how every video stands, and real clips."""
    parts: list[object] = []
    if isinstance(settings.objective, KTO | RWR):
        judged = _clear(settings, data) if isinstance(settings.objective, KTO) else data.standing()
        parts.append([[each.clip.name, each.row, each.score] for each in judged])
    if settings.anchors.real:
        parts.append(real_content(settings.real, settings.images))
    return content_key(data.key, *parts) if parts else data.key


def check(settings: AlignSettings, generator: Generator, data: PreferenceData) -> None:
    """Refuse what could not train, before anything is encoded or written."""
    objective = settings.objective
    if isinstance(objective, DPO | KTO):
        check_schedule(objective.schedule, generator.path.prediction)
    if isinstance(objective, SFT) and objective.on != "random":
        data.one_side(objective.on)
    elif not isinstance(objective, KTO | RWR):
        data.check_pairs()
    check_images(generator, data.prompts, mend=NAME_IMAGES)
    if settings.anchors.real:
        check_real(generator, settings.real, settings.images)
    if settings.empty_prompt_share and not generator.takes_negative_prompts:
        raise ReelignError(
            f"{generator.model} is guided in one pass, which has no side without a prompt, and empty_prompt_share "
            "trains that side.",
            "Leave out empty_prompt_share.",
        )
    check_sigma_range(settings, generator)
    check_precision(generator)
    if settings.lora is not None:
        check_targets(generator, settings.lora)
    if data.segments is not None:
        _check_segments(settings)
    if isinstance(objective, KTO) and len({each.score > 0 for each in labelled(settings, data)}) < 2:
        raise ReelignError(
            "KTO needs desirable and undesirable videos, and the labels are of one kind alone.",
            "Judge more candidates, or lower min_margin.",
        )
    if isinstance(objective, RWR) and not weighed_groups(settings, data):
        raise no_groups()


def check_precision(generator: Generator) -> None:
    """Refuse to train in float16."""
    denoisers: dict[str, Any] = dict(generator.denoisers)
    for name, denoiser in denoisers.items():
        if denoiser.dtype == torch.float16:
            raise ReelignError(
                f"The {name} of {generator.model} is in float16, in which small gradients vanish.",
                "Load it in a range that holds them: model.dtype=bfloat16, or float32.",
            )


def _check_segments(settings: AlignSettings) -> None:
    """Refuse settings under which segments would be passed over in silence."""
    objective = settings.objective
    unfit = {
        f"objective.name={objective.name}": not isinstance(objective, DPO),
        "reference_slots": settings.reference_slots > 0,
        "two_pass": settings.two_pass,
        "pairing=apart": settings.pairing == "apart",
        "objective.target_factor": isinstance(objective, DPO) and objective.target_factor is not None,
    }
    for name in (name for name, there in unfit.items() if there):
        raise ReelignError(
            f"The pairs have segments with verdicts of their own, which do not go with {name}.",
            "Train with plain dpo on them, or leave the column segments out.",
        )


def samples_of(workspace: Workspace, settings: AlignSettings, data: PreferenceData) -> int:
    """How many pairs or videos an epoch has."""
    sides = 2 if isinstance(settings.objective, DPO) else 1
    return len(training_clips(workspace, settings, data)) // sides


def training_clips(workspace: Workspace, settings: AlignSettings, data: PreferenceData) -> list[Clip]:
    """The videos of an epoch, those of a pair one after the other."""
    match settings.objective:
        case DPO():
            return data.clips
        case KTO():
            return [each.clip for each in labelled(settings, data)]
        case RWR():
            return [each.clip for group in weighed_groups(settings, data) for each in group]
        case SFT(on="random"):
            return drawn_clips(workspace, settings, data)
        case SFT(on="rejected"):
            return data.one_side("rejected")[0]
        case SFT():
            return data.one_side("chosen")[0]


def drawn_clips(workspace: Workspace, settings: AlignSettings, data: PreferenceData) -> list[Clip]:
    """The videos that are drawn without a look at the preferences: SFT's of a control, of all others none."""
    if not (isinstance(settings.objective, SFT) and settings.objective.on == "random"):
        return []
    return [clip for clip, _ in random_clips(workspace, data, generator_from(settings.seed, "random videos"))]


def labelled(settings: AlignSettings, data: PreferenceData) -> list[Candidate]:
    """The videos that KTO can call desirable or not."""
    return [each for each in _clear(settings, data) if each.score != 0]


def check_other_prompts(judged: Sequence[Candidate], batch_size: int) -> None:
    """Refuse a batch that may hold one prompt alone: a mismatched baseline measures each video under another one's."""
    most = max(Counter(each.row for each in judged).values())
    if batch_size > most:
        return
    if most == len(judged):
        raise ReelignError(
            f"All {most} labelled videos of a size have one prompt, and a mismatched baseline needs a second.",
            "Set objective.baseline=matched, or judge videos of more prompts.",
        )
    raise ReelignError(
        f"A batch of {batch_size} may hold the videos of one prompt alone, which has {most} of {len(judged)}, and a "
        "mismatched baseline measures each under another prompt.",
        f"Set batch_size={most + 1} or more, or objective.baseline=matched.",
    )


def weighed_groups(settings: AlignSettings, data: PreferenceData) -> list[list[Candidate]]:
    """The groups whose videos RWR can weigh against each other: of two or more, `min_margin` apart at least."""
    groups: dict[int, list[Candidate]] = {}
    for each in data.standing():
        groups.setdefault(each.row, []).append(each)
    return [group for group in groups.values() if len(group) > 1 and _spread(group) >= settings.min_margin]


def no_groups() -> ReelignError:
    return ReelignError(
        "RWR weighs the videos of a group against each other, and there is no group of two that stand apart.",
        "Judge more candidates of each prompt, or lower min_margin.",
    )


def left_out(settings: AlignSettings, data: PreferenceData) -> dict[str, int]:
    """What is not trained on, by reason: what gave no pair, and the videos that the objective can do nothing with."""
    judged, dropped = data.standing(), {}
    if isinstance(settings.objective, KTO):
        dropped = {"video without a clear label": len(judged) - len(labelled(settings, data))}
    if isinstance(settings.objective, RWR):
        kept = sum(map(len, weighed_groups(settings, data)))
        dropped = {"video with none of its group to weigh it against": len(judged) - kept}
    return {**data.left_out, **{reason: count for reason, count in dropped.items() if count}}


def _clear(settings: AlignSettings, data: PreferenceData) -> list[Candidate]:
    return [each for each in data.standing() if abs(each.score) >= settings.min_margin]


def _spread(group: list[Candidate]) -> float:
    return max(each.score for each in group) - min(each.score for each in group)
