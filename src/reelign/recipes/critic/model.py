"""A critic as it trains: a local model, the questions it is asked, and what of its weights moves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from reelign.critics.formats import Plain
from reelign.critics.frames import Part, Shown, shown
from reelign.critics.opening import CriticOptions, local_writer
from reelign.errors import ReelignError
from reelign.recipes.critic.lessons import Example
from reelign.recipes.critic.settings import CriticSettings
from reelign.recipes.critic.tokens import with_answer
from reelign.recipes.language_adapters import add_lora, fold_lora, recompute_blocks
from reelign.training.trained import TrainedWeights
from reelign.video import Clip


class CriticModel:
    """A local writer and reelign's own questions.

    Args:
        writer: of `critics.local_qwen` or `critics.local_images`.
        format: what is asked; trained and asked it is the same.
        frames: shown of each video.
    """

    def __init__(self, writer: Any, format: Plain, frames: int) -> None:
        self.writer, self.format, self.frames = writer, format, frames

    @classmethod
    def load(cls, settings: CriticSettings) -> CriticModel:
        """The backbone on its device.

        Raises:
            ReelignError: it cannot be loaded, or a dimension has no meaning.
        """
        format = Plain(settings.own)
        for name in settings.dimensions:
            if name not in format.compares:
                raise ReelignError(
                    f"A critic cannot be asked about {name!r}: nobody said what it means.",
                    f"Say it in words: own.{name}='how ...'; {', '.join(Plain().compares)} have words already.",
                )
        pixels = settings.pixels
        options = CriticOptions(
            min_pixels=pixels.min_pixels, max_pixels=pixels.max_pixels, device=settings.device, dtype=settings.dtype
        )
        return cls(local_writer(settings.backbone, options, pixels.max_pixels), format, settings.frames)

    @property
    def model(self) -> Any:
        """With vision tower, language model and head."""
        return self.writer.model

    def look(self, frames: Tensor, fps: float) -> Shown:
        """What is shown of a video (F, 3, H, W) in [0, 1]."""
        return shown(Clip(frames=frames, fps=fps), self.frames, self.format.spread)

    def question(self, example: Example, seen: Sequence[Shown]) -> list[Part]:
        """What is asked, of one video or of two."""
        if len(seen) == 2:
            return self.format.pair_question(seen[0], seen[1], example.prompt, example.dimension)
        return self.format.question(seen[0], example.prompt, example.dimension)

    def logits(self, parts: Sequence[Part], answer: Tensor) -> Tensor:
        """(T, V) of the next token before each of the T tokens of an answer; no other place goes through the head."""
        asked = self.writer.inputs(parts)
        length = asked["input_ids"].shape[1]
        body = getattr(self.model, self.model.base_model_prefix)
        states = body(**with_answer(asked, answer), use_cache=False).last_hidden_state
        found: Tensor = self.model.get_output_embeddings()(states[0, length - 1 : -1])
        return found


class CriticPolicy(TrainedWeights):
    """What of a critic trains.

    Args:
        model: loaded.
        settings: which weights.
    """

    def __init__(self, model: CriticModel, settings: CriticSettings) -> None:
        self.model = model
        network = model.model
        network.requires_grad_(False)
        network.eval()  # no dropout: both orders of a pair are to be judged by the same model
        body = getattr(network, network.base_model_prefix)
        self.language = body.language_model
        if settings.train == "full":
            self.language.requires_grad_(True)
            network.get_output_embeddings().requires_grad_(True)
        else:
            add_lora(self.language, settings.lora, settings.seed)
        if settings.train_vision:
            tower = getattr(body, "visual", None) or getattr(body, "vision_tower", None)
            if tower is None:
                raise ReelignError(
                    f"{type(network).__name__} has no vision tower by a known name.", "Set train_vision=false."
                )
            tower.requires_grad_(True)
        super().__init__({name: each for name, each in network.named_parameters() if each.requires_grad})

    def enable_activation_checkpointing(self) -> None:
        """Run the blocks of tower and language model again in the backward pass."""
        recompute_blocks(self.model.model)

    def fold(self) -> CriticModel:
        """The model with its adapter added to the weights. Training ends with this."""
        fold_lora(self.language)
        self.model.model.requires_grad_(False).eval()
        return self.model
