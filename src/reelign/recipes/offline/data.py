"""What an alignment trains on: a user's file, real against generated videos, or a workspace's own judgements."""

from __future__ import annotations

from pathlib import Path

from reelign.errors import ReelignError
from reelign.recipes.data.files import file_preferences
from reelign.recipes.data.preferences import PreferenceData, ground_truth_preferences, workspace_preferences
from reelign.recipes.settings import AlignSettings
from reelign.records import Workspace


def training_data(
    workspace: Workspace, settings: AlignSettings, file: Path | None = None, format: str | None = None
) -> PreferenceData:
    """The preferences that the settings ask for; those of `file`, in that format, where one is given.

    Raises:
        ReelignError: no preferences, or a file's defects are asked for, which it says as segments.
    """
    if file is not None and settings.defects == "segments":
        raise ReelignError(
            f"defects=segments is about the workspace's own judgements, and the pairs come from {file}.",
            "Leave defects at 'ignored'; a file says the parts of its pairs in the column segments.",
        )
    if file is not None:
        data = file_preferences(file, format, pairs=settings.pairs, weights=settings.weights, images=settings.images)
    elif settings.pairs == "ground_truth":
        data = ground_truth_preferences(workspace, Path(settings.real))
    else:
        data = workspace_preferences(
            workspace, settings.pairs, settings.weights, defects=settings.defects == "segments"
        )
    return data.above(settings.min_margin)
