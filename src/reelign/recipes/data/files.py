"""Preferences in users' files, their videos looked at before anything is trained."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from reelign.errors import ReelignError
from reelign.recipes.data.clips import Clip
from reelign.recipes.data.preferences import Candidate, PreferenceData
from reelign.recipes.data.real_clips import Images, asked_of
from reelign.records import Broken, Compared, FileLabel, FileRows, content_key, decided, prompt_content, read_rows
from reelign.records.segments import segments_cell
from reelign.training.caches import file_hash
from reelign.video import Probe, probe_video

UNREADABLE = "unreadable video"
OTHER_SIZE = "videos of different sizes"
OTHER_RATE = "segments in videos of different frame rates"
SAME_CONTENT = "two copies of one video"


def file_preferences(
    path: str | Path,
    format: str | None = None,
    *,
    pairs: str = "all",
    weights: Mapping[str, float] | None = None,
    images: Images = "column",
) -> PreferenceData:
    """The preferences in a user's file or folder: pairs, pointwise labels, or both.

    Args:
        path, format: as for `records.read_rows`.
        pairs, weights: as for `records.decided`.
        images: where labelled videos take the images from that they go on from (`AlignSettings`).
    Raises:
        ReelignError: as `records.read_rows`, or a row cannot be trained on: a missing, unreadable or empty value, the
            two videos of a pair differ in size or length or are copies of one.
    """
    found = checked(read_rows(path, format))
    tqdm.write(f"{found.path}: read as {found.format}", file=sys.stderr)
    found.refuse_broken()
    labels = [replace(each, prompt=asked_of(each.prompt, each.video, images)) for each in found.labels]
    made, left_out = decided(found.compared, pairs=pairs, weights=weights)
    prompts = list(dict.fromkeys([*(pair.prompt for pair in made), *(label.prompt for label in labels)]))
    row = {prompt: index for index, prompt in enumerate(prompts)}
    segmented = any(pair.segments for pair in made)
    content: list[object] = [
        [prompt_content(pair.prompt), file_hash(pair.chosen), file_hash(pair.rejected)] for pair in made
    ]
    content += [segments_cell(pair.segments) for pair in made] if segmented else []
    content += [[prompt_content(label.prompt), file_hash(label.video), label.desirable] for label in labels]
    return PreferenceData(
        prompts=prompts,
        chosen=[Clip(pair.chosen) for pair in made],
        rejected=[Clip(pair.rejected) for pair in made],
        rows=[row[pair.prompt] for pair in made],
        key=content_key(content),
        left_out=left_out,
        margins=[pair.margin for pair in made],
        candidates=_candidates(labels, row) if labels else None,
        segments=[pair.segments for pair in made] if segmented else None,
    )


def checked(found: FileRows) -> FileRows:
    """The rows whose videos can be trained on; the others join the broken ones, each with what is wrong with it."""
    looked = _Videos(found)
    compared, labels, broken = [], [], list(found.broken)
    for row in found.compared:
        trouble = looked.trouble(row.where, row.first, row.second) or looked.difference(row)
        if trouble is None:
            compared.append(row)
        else:
            broken.append(trouble)
    for label in found.labels:
        trouble = looked.trouble(label.where, label.video)
        if trouble is None:
            labels.append(label)
        else:
            broken.append(trouble)
    return replace(found, compared=compared, labels=labels, broken=broken)


class _Videos:
    """Every file that the rows name, looked at once."""

    def __init__(self, found: FileRows) -> None:
        sides = [path for row in found.compared for path in (row.first, row.second)]
        paths = dict.fromkeys([*sides, *(label.video for label in found.labels)])
        self.probes: dict[Path, Probe | ReelignError] = {}
        for path in tqdm(paths, desc="check", unit="video", disable=len(paths) < 100):
            try:
                self.probes[path] = probe_video(path)
            except ReelignError as error:
                self.probes[path] = error

    def trouble(self, where: str, *paths: Path) -> Broken | None:
        """The first of these files that cannot be read."""
        for path in paths:
            probe = self.probes[path]
            if isinstance(probe, ReelignError):
                return Broken(where=where, reason=UNREADABLE, what=probe.what, mend=probe.mend)
        return None

    def difference(self, row: Compared) -> Broken | None:
        """Why two readable videos are no pair: noise is shared between them, so they have one shape."""
        one, two = self.probes[row.first], self.probes[row.second]
        assert isinstance(one, Probe)
        assert isinstance(two, Probe)
        if str(one) != str(two):
            what = f"its videos differ in size: {row.first} has {one}, {row.second} has {two}"
            return Broken(where=row.where, reason=OTHER_SIZE, what=what, mend="Cut and resize them alike.")
        if row.segments and one.fps != two.fps:
            what = f"its segments are counted in seconds, and {row.first} has {one.fps:g} fps, {row.second} {two.fps:g}"
            return Broken(where=row.where, reason=OTHER_RATE, what=what, mend="Write them at one frame rate.")
        if file_hash(row.first) == file_hash(row.second):
            what = f"{row.first} and {row.second} are two copies of one video"
            return Broken(where=row.where, reason=SAME_CONTENT, what=what, mend="Remove the row.")
        return None


def _candidates(labels: Sequence[FileLabel], row: Mapping[str, int]) -> list[Candidate]:
    return [Candidate(Clip(each.video), row[each.prompt], 1.0 if each.desirable else -1.0) for each in labels]
