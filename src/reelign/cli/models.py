"""`reelign models`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

GIB = 2**30
WIDE = 320
"""Columns where nobody's screen says otherwise: a row of the table is a line of a file or a pipe."""


def models(
    memory: Annotated[
        bool, typer.Option("--memory", help="What aligning each published model takes, as it was planned.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The same as JSON, sizes in bytes.")] = False,
) -> None:
    """List the model families: what they make, at which size, what an adapter trains, the weights' licence, and
    whose sizes are known here; with --memory what SFT, DPO, online DPO and reward gradients take of a device.

    Example: `reelign models --memory`; `reelign plan --model Wan-AI/Wan2.1-T2V-14B-Diffusers` plans settings of yours.
    """
    import json

    from rich.table import Table

    if memory:
        _memory(as_json)
        return
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
    _show(table)
    print("What is peculiar to each: docs/families.md. Memory: reelign models --memory, reelign plan --model MODEL.")


def _show(table: Any) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    console.print(table, markup=False)


def _memory(as_json: bool) -> None:
    """Print the table of planned memory."""
    import json

    from rich.table import Table

    from reelign.recipes.planning.planned_table import planned_methods, planned_table

    found, methods = planned_table(), planned_methods()
    if as_json:
        print(json.dumps(found, indent=1))
        return
    table = Table("model", "frames, height, width", *(name.replace("_", " ") for name in methods), "encoding before")
    for model, entry in found["models"].items():
        cells = [f"{entry[each]['training'] / GIB:.1f}" if each in entry else "" for each in methods]
        before = max(part["encoding"] for name, part in entry.items() if name in methods)
        table.add_row(model, ", ".join(map(str, entry["size"])), *cells, f"{before / GIB:.1f}")
    _show(table)
    print(
        f"GiB of one device, planned on {found['date']} by version {found['version']}: bf16, LoRA of rank 64, one clip "
        "or pair at a time, denoiser blocks run again (trainer.activation_checkpointing=full), the VAE in bf16; online "
        "and reward gradient with VideoReward's 2B judge there too, decode.mode=reverse. An allocator, convolution "
        "workspaces and the device's context add 10 to 15 %. What is empty was not planned yet. Settings of your own: "
        "reelign plan --model MODEL."
    )


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
