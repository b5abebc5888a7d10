"""What an objective trains on: which videos, what they are known by, and which data it cannot train on."""

from __future__ import annotations

from reelign.diffusion.seeds import generator_from
from reelign.errors import ReelignError
from reelign.generators.base import Generator
from reelign.objectives import DPO, KTO, RWR, SFT, check_schedule
from reelign.recipes.clips import Clip
from reelign.recipes.preference_data import Candidate, PreferenceData, random_clips
from reelign.recipes.settings import AlignSettings
from reelign.records import Workspace, content_key, read_videos
from reelign.training.caches import file_hash


def data_key(settings: AlignSettings, data: PreferenceData) -> str:
    """Changes with what the objective looks at: pairs or how every video stands, and real clips."""
    parts: list[object] = []
    if isinstance(settings.objective, KTO | RWR):
        parts.append([[each.clip.name, each.row, each.score] for each in data.standing()])
    if settings.anchors.real:
        parts.append([[each.prompt, file_hash(each.video)] for each in read_videos(settings.real)])
    return content_key(data.key, *parts) if parts else data.key


def check(settings: AlignSettings, generator: Generator, data: PreferenceData) -> None:
    """Refuse what could not train, before anything is encoded or written."""
    objective = settings.objective
    if isinstance(objective, DPO | KTO):
        check_schedule(objective.schedule, generator.path.prediction)
    if not isinstance(objective, KTO | RWR):
        data.check_pairs()
    if data.segments is not None:
        _check_segments(settings)
    if isinstance(objective, KTO) and len({each.score > 0 for each in labelled(data)}) < 2:
        raise ReelignError(
            "KTO needs desirable and undesirable videos, and the labels are of one kind alone.",
            "Judge more candidates, or lower min_margin.",
        )


def _check_segments(settings: AlignSettings) -> None:
    """Refuse settings under which segments would be passed over in silence."""
    objective = settings.objective
    unfit = {
        f"objective.name={objective.name}": not isinstance(objective, DPO),
        "reference_slots": settings.reference_slots > 0,
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
            return [each.clip for each in labelled(data)]
        case RWR():
            return [each.clip for each in data.standing()]
        case SFT(on="random"):
            chance = generator_from(settings.seed, "random videos")
            return [clip for clip, _ in random_clips(workspace, data, chance)]
        case SFT(on=side):
            return data.chosen if side == "chosen" else data.rejected


def labelled(data: PreferenceData) -> list[Candidate]:
    """The videos that KTO can call desirable or not."""
    return [each for each in data.standing() if each.score != 0]
