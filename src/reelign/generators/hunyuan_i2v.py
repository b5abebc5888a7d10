"""HunyuanVideo 1.0 image-to-video (`HunyuanVideoImageToVideoPipeline`), of both kinds: the text is read with the image.

Facts that matter here (diffusers 0.42.1, pipelines/hunyuan_video/; Tencent's HunyuanVideo-I2V): LLaVA reads the image
within the prompt's template, and its states of every fourth (`token_replace`) or second (`latent_concat`) of the
image's 576 tokens stand before the prompt's own, of which the header of an answer is cut. The other side of guidance is
read with a black image, of which every second token is taken in both kinds. `token_replace`, 16 channels and
guidance-distilled, has the image at the first latent frame, whose tokens are told time 0. `latent_concat`, 33 channels
and not distilled, has it beside the noisy latents, makes every frame and shows none of the first four. Both begin with
a thousandth of the image, at rest, in the noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video_image2video import DEFAULT_PROMPT_TEMPLATE
from PIL import Image
from torch import Tensor

from reelign.generators.base import Conditioning, SamplingDefaults, VideoSize
from reelign.generators.decoding.decoders import decoder_of
from reelign.generators.decoding.video import VideoDecoder
from reelign.generators.given_frames import first_frame_mask, hold, point_at
from reelign.generators.hunyuan import HunyuanVideo
from reelign.generators.pictures import as_pictures

FIRST = "first_latents"
"""The latents of the image in the conditioning, (B, C, 1, H, W)."""
HINT = 0.001
"""The image's share of what sampling begins with."""
HIDDEN = 4
"""Frames that `latent_concat` makes first and does not show: the first latent frame's and three of the second's."""
EVERY = {"latent_concat": 2, "token_replace": 4}
"""Of the image's tokens each so-manieth stands before the prompt."""
EVERY_OF_BLACK = 2
HEADER_END, HEADER_LENGTH = "<|end_header_id|>", 4
"""What an answer's header ends with, behind system's and user's, and its tokens with the end of the turn before it."""
DEPTH = -3
"""Which of LLaMA's hidden states are the text's."""


class HunyuanVideoImageToVideo(HunyuanVideo):
    """HunyuanVideo 1.0 I2V through its diffusers pipeline."""

    pipeline_classes: ClassVar[tuple[str, ...]] = ("HunyuanVideoImageToVideoPipeline",)
    image_condition: ClassVar[tuple[str | None, ...]] = tuple(EVERY)
    template_length: ClassVar[int] = DEFAULT_PROMPT_TEMPLATE["crop_start"]

    @property
    def kind(self) -> str:
        """How the denoiser takes the image."""
        return str(self.pipeline.transformer.config.image_condition_type)

    @property
    def hidden(self) -> int:
        """Frames in front that are made and not shown."""
        return HIDDEN if self.kind == "latent_concat" else 0

    @property
    def published_defaults(self) -> SamplingDefaults:
        """As many frames as are shown, and no guidance of a model that is not distilled, as its authors run it."""
        defaults = self.family_defaults
        scale = defaults.guidance_scale if self.pipeline.transformer.config.guidance_embeds else 1.0
        return replace(defaults, num_frames=defaults.num_frames - self.hidden, guidance_scale=scale)

    def pipeline_call(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """With the frames that are made, of which the pipeline shows fewer."""
        if "num_frames" in arguments:
            arguments = {**arguments, "num_frames": arguments["num_frames"] + self.hidden}
        return super().pipeline_call(arguments)

    @torch.no_grad()
    def encode_prompts(self, prompts: list[str]) -> Conditioning:
        """With a black image, as the other side of guidance is."""
        black = Image.new("RGB", (32, 32))  # of any size: the processor brings it to its own
        return self._read(prompts, [black] * len(prompts), EVERY_OF_BLACK)

    @torch.no_grad()
    def encode_together(self, prompts: list[str], images: Tensor) -> Conditioning:
        return self._read(prompts, as_pictures(images), EVERY[self.kind])

    def _read(self, prompts: list[str], pictures: list[Image.Image], every: int) -> Conditioning:
        rows = [self._read_one(*both, every) for both in zip(prompts, pictures, strict=True)]
        embeds, masks = (torch.stack(each) for each in zip(*rows, strict=True))
        pooled = self.pipeline._get_clip_prompt_embeds(prompts, device=self.device)
        return Conditioning({"prompt_embeds": embeds, "pooled_prompt_embeds": pooled, "prompt_attention_mask": masks})

    def _read_one(self, prompt: str, picture: Image.Image, every: int) -> tuple[Tensor, Tensor]:
        """LLaMA's states (tokens, width) of image and prompt, and where they are of either and no padding, (tokens,).

        One by one: how the answer's header is found in a prompt that was cut depends on there being no other.
        """
        template, tokenizer = DEFAULT_PROMPT_TEMPLATE, self.pipeline.tokenizer
        length = self.template_length + self.max_sequence_length
        tokens = tokenizer(
            [template["template"].format(prompt)],
            max_length=length,
            padding="max_length",
            truncation=True,
            return_tensors="pt",
            return_attention_mask=True,
        )
        ids, mask = tokens["input_ids"][0], tokens["attention_mask"][0]
        states, offset = self._states(ids, mask, picture)
        place = template["image_emb_start"]
        image = states[place : template["image_emb_end"] : every]
        ends = (ids == tokenizer.convert_tokens_to_ids(HEADER_END)).nonzero()[:, 0]
        # The header of a prompt that was cut is gone; then it is taken to have been at the very end.
        end = int(ends[-1]) + 1 if len(ends) > 2 else length
        kept = torch.tensor([*range(self.template_length, end - HEADER_LENGTH), *range(end, length)])
        text = states[(kept + offset).to(states.device)]
        return torch.cat([image, text]), torch.cat([mask.new_ones(len(image)), mask[kept]]).to(states.device)

    def _states(self, ids: Tensor, mask: Tensor, picture: Image.Image) -> tuple[Tensor, int]:
        """LLaMA's states of ids (tokens,), among which the image's mark became its features; and by how many places
        what stands behind it moved."""
        llava, place = self.pipeline.text_encoder, DEFAULT_PROMPT_TEMPLATE["image_emb_start"]
        pixels = self.pipeline.image_processor(picture, return_tensors="pt").pixel_values.to(self.device)
        seen = torch.cat(list(llava.get_image_features(pixel_values=pixels).pooler_output))
        words = llava.get_input_embeddings()(ids.to(self.device))
        inputs = torch.cat([words[:place], seen.to(words.dtype), words[place + 1 :]])
        there = torch.cat([mask[:place], mask.new_ones(len(seen)), mask[place + 1 :]])
        positions = (there.cumsum(0) - 1).masked_fill(there == 0, 1)
        said = llava(
            inputs_embeds=inputs[None],
            attention_mask=there[None].to(self.device),
            position_ids=positions[None].to(self.device),
            output_hidden_states=True,
            use_cache=False,
            logits_to_keep=1,  # no word is asked for
        )
        return said.hidden_states[DEPTH][0], len(seen) - 1

    @torch.no_grad()
    def encode_condition(self, images: Tensor, size: VideoSize) -> Conditioning:
        pictures = as_pictures(images)
        first = self.pipeline.video_processor.preprocess(pictures, height=size.height, width=size.width)
        return Conditioning({FIRST: super().encode((first[:, None].float() + 1) / 2)})

    def clean_mask(self, shape: Sequence[int], conditioning: Conditioning) -> Tensor | None:
        if self.kind == "latent_concat":
            return None
        return first_frame_mask(shape, conditioning[FIRST].device)

    def latent_shape(self, size: VideoSize) -> tuple[int, int, int, int]:
        return super().latent_shape(replace(size, num_frames=size.num_frames + self.hidden))

    def start(self, noise: Tensor, sigma: Tensor, conditioning: Conditioning) -> Tensor:
        return (1 - HINT) * super().start(noise, sigma, conditioning) + HINT * conditioning[FIRST].to(noise)

    def embedded_velocity(
        self, noisy_latents: Tensor, sigma: Tensor, conditioning: Conditioning, scale: float
    ) -> Tensor:
        predicted = super().embedded_velocity(noisy_latents, sigma, conditioning, scale)
        given = self.clean_mask(noisy_latents.shape, conditioning)
        if given is None:
            return predicted
        return point_at(predicted, noisy_latents, conditioning[FIRST], given, sigma)

    def model_input(self, noisy_latents: Tensor, conditioning: Conditioning) -> Tensor:
        given = self.clean_mask(noisy_latents.shape, conditioning)
        if given is not None:
            return hold(noisy_latents, conditioning[FIRST], given)
        there = first_frame_mask(noisy_latents.shape, noisy_latents.device)
        clip = hold(torch.zeros_like(noisy_latents), conditioning[FIRST], there)
        return torch.cat([noisy_latents, clip, there.to(noisy_latents)], dim=1)

    def encode(self, videos: Tensor) -> Tensor:
        """Behind frames that are not shown a clip's first one stands still."""
        still = videos[:, :1].expand(-1, self.hidden, -1, -1, -1)
        return super().encode(torch.cat([still, videos], dim=1))

    @property
    def decoder(self) -> VideoDecoder:
        return decoder_of(self.pipeline.vae, hidden=self.hidden)
