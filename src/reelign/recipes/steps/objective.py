"""The step of an objective, whatever stream feeds it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from reelign.objectives import DPO, KTO, mean_beta
from reelign.recipes.settings import StepSettings
from reelign.recipes.steps.kto import KTOStep
from reelign.recipes.steps.pair import DPOStep
from reelign.recipes.steps.video import DataAnchorStep, SFTStep
from reelign.training import Step

WithBeta = TypeVar("WithBeta", DPO, KTO)


def in_means(objective: WithBeta, elements: int) -> WithBeta:
    """The objective with its β under the mean reduction, for latents of so many elements."""
    beta = mean_beta(objective.beta, reduction=objective.reduction, elements=elements)
    return replace(objective, beta=beta, reduction="mean")


def objective_step(settings: StepSettings, elements: int) -> Step[Any]:
    """The step of the settings' objective on latents of so many elements, with its anchor on real videos."""
    step: Step[Any]
    match settings.objective:
        case DPO():
            step = DPOStep(in_means(settings.objective, elements), settings)
        case KTO():
            step = KTOStep(in_means(settings.objective, elements), settings)
        case objective:
            step = SFTStep(objective, settings)
    return DataAnchorStep(step, settings) if settings.anchors.real else step
