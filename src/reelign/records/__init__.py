"""What is remembered: prompts, videos, judgements, and the preferences that follow from them."""

from reelign.records.answers import Defect, Kind, Verdict
from reelign.records.assignments import Invitation, Opening, Showing
from reelign.records.file_rows import Broken, Compared, FileLabel, FileRows
from reelign.records.image_prompts import FirstFrame, ImagePrompt, image_prompt, prompt_content
from reelign.records.judges import JUDGES, Judge, is_comparing, kind_of, load_judges
from reelign.records.pair_files import FilePair, decided, write_labels, write_pairs
from reelign.records.pair_policies import Pair, PairPolicy, Preferences, ground_truth_pairs
from reelign.records.preferences import (
    Label,
    Labels,
    Standing,
    labels,
    preferences,
    scored_preferences,
    standings,
)
from reelign.records.prompt_files import read_prompts
from reelign.records.readers import READERS, read_pairs, read_rows
from reelign.records.schema import SCHEMA_VERSION, JudgeEntry, Judgement, Prompt, Score, Task, Video, content_key
from reelign.records.video_files import FileVideo, read_videos
from reelign.records.votes import Vote, majority
from reelign.records.workspace import Group, Workspace

__all__ = [
    "JUDGES",
    "READERS",
    "SCHEMA_VERSION",
    "Broken",
    "Compared",
    "Defect",
    "FileLabel",
    "FilePair",
    "FileRows",
    "FileVideo",
    "FirstFrame",
    "Group",
    "ImagePrompt",
    "Invitation",
    "Judge",
    "JudgeEntry",
    "Judgement",
    "Kind",
    "Label",
    "Labels",
    "Opening",
    "Pair",
    "PairPolicy",
    "Preferences",
    "Prompt",
    "Score",
    "Showing",
    "Standing",
    "Task",
    "Verdict",
    "Video",
    "Vote",
    "Workspace",
    "content_key",
    "decided",
    "ground_truth_pairs",
    "image_prompt",
    "is_comparing",
    "kind_of",
    "labels",
    "load_judges",
    "majority",
    "preferences",
    "prompt_content",
    "read_pairs",
    "read_prompts",
    "read_rows",
    "read_videos",
    "scored_preferences",
    "standings",
    "write_labels",
    "write_pairs",
]
