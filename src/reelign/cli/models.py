"""`reelign models`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

WIDE = 320
"""Columns where nobody's screen says otherwise: a row of the table is a line of a file or a pipe."""


def models(
    as_json: Annotated[bool, typer.Option("--json", help="The same as JSON.")] = False,
) -> None:
    """List the model families: what they make, at which size, what an adapter trains, the weights' licence, and
    whose sizes are known here.

    Example: `reelign models`; `reelign plan --model Wan-AI/Wan2.1-T2V-14B-Diffusers` says what aligning one takes.
    """
    import json

    from rich.console import Console
    from rich.table import Table

    found = families()
    if as_json:
        print(json.dumps(found, indent=1))
        return
    table = Table(
        "pipeline", "tasks", "size", "steps", "guidance", "LoRA targets", "licence", "planned without a download"
    )
    for name, told in found.items():
        keys = ("tasks", "size", "steps", "guidance", "lora_targets", "licence", "published")
        table.add_row(name, *(", ".join(each) if isinstance(each := told[key], list) else str(each) for key in keys))
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    console.print(table, markup=False)
    print("What is peculiar to each: docs/families.md. Memory: reelign plan --model MODEL.")


def _tasks(family: Any) -> list[str]:
    """What a clip may begin from: a text alone, or the image of its first frame beside it."""
    from reelign.generators.base import Generator

    if family.encode_condition is Generator.encode_condition:
        return ["text"]
    return ["first frame"] if family.needs_images is Generator.needs_images else ["text", "first frame"]


def families() -> dict[str, dict[str, Any]]:
    """What the families' classes say of themselves, by the class name of the pipeline."""
    from reelign.generators import GENERATORS
    from reelign.generators.base import Generator
    from reelign.generators.licences import LICENCES
    from reelign.generators.published import published_configs
    from reelign.naming import named_object

    known = {model: config["_class_name"] for model, config in published_configs().items()}
    found = {}
    for name, place in GENERATORS.items():
        family: type[Generator] = named_object(place, "generator")
        defaults = family.family_defaults
        found[name] = {
            "tasks": _tasks(family),
            "size": str(defaults.size),
            "steps": defaults.num_inference_steps,
            "guidance": defaults.guidance_scale,
            "lora_targets": list(family.lora_targets),
            "licence": LICENCES[name],
            "published": [model for model, pipeline in known.items() if pipeline == name],
        }
    return found
