"""The adapter's model card: the README.md that stands beside its weights."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from reelign.errors import ReelignError
from reelign.evaluation.paired import Comparison
from reelign.evaluation.report import as_yaml
from reelign.files import whole

TAGS = ("text-to-video", "lora", "diffusers", "preference-alignment", "reelign")


@dataclass(frozen=True, kw_only=True, slots=True)
class CardSample:
    """A sample video of the adapter, as a path relative to the card's folder."""

    prompt: str
    file: str


def write_card(
    folder: str | Path,
    *,
    base_model: str,
    comparison: Comparison,
    config: Mapping[str, Any],
    data_hash: str,
    usage: str,
    samples: Sequence[CardSample] = (),
    title: str = "A preference-aligned LoRA adapter",
    license: str | None = None,
) -> Path:
    """Write `README.md` into the adapter's folder and return its path.

    Args:
        folder: the adapter's folder; the sample videos already lie in it.
        base_model: hub id or folder of the pipeline the adapter was trained on.
        comparison: base against aligned on held-out prompts.
        config: the resolved configuration of the training.
        data_hash: hash of the preferences trained on.
        usage: the lines of plain diffusers that load the adapter, shown as given.
        samples: videos shown on the card.
        title: the card's first heading.
        license: hub identifier of the adapter's licence.
    """
    folder = Path(folder)
    for sample in samples:
        if not (folder / sample.file).is_file():
            raise ReelignError(
                f"The card's sample video {sample.file} is not in {folder}.", "Write the sample videos before the card."
            )
    data = ModelCardData(
        # The hub refuses a card whose base model is a path, so a local folder is named in the text alone.
        base_model=base_model if is_repository(base_model) and not Path(base_model).exists() else None,
        library_name="diffusers",
        pipeline_tag="text-to-video",
        tags=list(TAGS),
        license=license,
        widget=[{"text": s.prompt, "output": {"url": s.file}} for s in samples] or None,
    )
    card = ModelCard.from_template(
        data,
        template_str=files("reelign.evaluation").joinpath("templates/card.md.j2").read_text(encoding="utf-8"),
        title=title,
        base=base_model,
        comparison=comparison,
        config=as_yaml(config),
        data_hash=data_hash,
        usage=usage.strip(),
        samples=[{"prompt": html.escape(s.prompt), "file": html.escape(s.file)} for s in samples],
    )
    with whole(folder / "README.md") as beside:
        card.save(beside)
    return folder / "README.md"


def is_repository(name: str) -> bool:
    """Whether a name has the form of a hub repository's, `owner/name`."""
    word = r"[A-Za-z0-9_][\w.-]{0,95}"
    return bool(re.fullmatch(f"{word}/{word}", name, re.ASCII)) and "--" not in name and ".." not in name
