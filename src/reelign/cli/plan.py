"""`reelign plan`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reelign.cli.options import Settings, layers

if TYPE_CHECKING:
    from reelign.recipes.planning.memory_plan import MemoryPlan, Stage

GIB = 2**30


def plan(
    settings: Settings = None,
    model: Annotated[
        str, typer.Option(help="A hub id or folder; a recipe's header or the workspace names it too.")
    ] = "",
    workspace: Annotated[
        Path | None, typer.Option("--workspace", "-w", help="The workspace whose model and settings come first.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="All numbers, in bytes, as JSON.")] = False,
) -> None:
    """Say how much memory `reelign align` would need, stage by stage, how often it would ask the denoiser, and which
    setting lowers the peak. Nothing is downloaded but configuration, and no GPU is needed.

    Example: `reelign plan recipes/wan2.1-1.3b-dpo.yaml micro_batch_size=2 generate.num_frames=49`
    """
    import json

    from reelign.memory_plans import plan_memory

    found = plan_memory(layers(settings), model=model, workspace=workspace)
    print(json.dumps(as_dict(found), indent=1) if as_json else "\n".join(lines(found)))


def as_dict(found: MemoryPlan) -> dict[str, Any]:
    """A plan's numbers, sizes in bytes."""
    stages = [
        {"name": stage.name, "total": stage.total, "held": stage.held, "beside": stage.by} for stage in found.stages
    ]
    return {
        "model": found.model,
        "num_frames": found.size.num_frames,
        "height": found.size.height,
        "width": found.size.width,
        "tokens": found.tokens,
        "trainable": found.trainable,
        "stages": stages,
        "peak": {"stage": found.peak.name, "bytes": found.peak.total, "largest": found.peak.largest},
        "host": found.host,
        "forwards": found.forwards,
        "left_out": list(found.left_out),
        "mend": found.mend,
    }


def lines(found: MemoryPlan) -> list[str]:
    """A plan as a table."""
    peak = found.peak
    counts = ", ".join(f"{count:,.4g} {name}" for name, count in found.forwards.items())
    rows = [("stage", "GiB", "held", "beside it"), *(_row(stage) for stage in found.stages)]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    table = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]) for row in rows
    ]
    return [
        f"{found.model}: {getattr(found.settings, 'stream', '')}, {found.size}, {found.tokens:,} tokens a clip, "
        f"{found.trainable:,} parameters train",
        "",
        *table,
        "",
        f"peak: {peak.total / GIB:.1f} GiB, in '{peak.name}'; its largest term: {peak.largest}",
        f"to lower it: {found.mend}",
        f"host memory of a step: {found.host / GIB:.1f} GiB, the decoder's caches pinned where it has any",
        f"a step: {counts}",
        *(f"not counted: {each}" for each in found.left_out),
        "An allocator, convolution workspaces and the device's context add 10 to 15 %.",
    ]


def _row(stage: Stage) -> tuple[str, str, str, str]:
    held = sum(stage.held.values())
    largest = sorted(stage.by.items(), key=lambda each: -each[1])
    beside = ", ".join(
        f"{name} {size / GIB:.2f}" for name, size in largest if size > 0.005 * GIB or name == largest[0][0]
    )
    return stage.name, f"{stage.total / GIB:.2f}", f"{held / GIB:.2f}", beside
