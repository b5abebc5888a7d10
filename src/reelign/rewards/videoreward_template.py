# ruff: noqa: E501
"""What VideoReward is asked about a video: a text with a reward token per dimension and the place of the prompt.

The language model is causal: a reward token sees the video and the text before it, and nothing behind. So a dimension
is context-agnostic (it cannot see the prompt) exactly where its token stands before the prompt, and the text alone
says which are: `sees_prompt`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reelign.errors import ReelignError

PROMPT = "{text_prompt}"
"""Where a template takes the prompt."""


def reward_token(dimension: str) -> str:
    """The special token whose hidden state is read for a dimension: <|VQ_reward|> for VQ."""
    return f"<|{dimension}_reward|>"


def short_template(dimensions: Sequence[str], *, agnostic: Sequence[str] = ("VQ", "MQ")) -> str:
    """A template for any dimensions, a few words long; their names are all that it says of them.

    Args:
        dimensions: their names; none for pooling at the last token.
        agnostic: those that are not to see the prompt; names that are not dimensions are passed over.
    """
    before = "".join(f"{name}: {reward_token(name)}\n" for name in dimensions if name in agnostic)
    behind = "".join(f"{name}: {reward_token(name)}\n" for name in dimensions if name not in agnostic)
    return f"Rate the video.\n{before}Prompt: {PROMPT}\n{behind}"


def sees_prompt(template: str, dimension: str) -> bool:
    """Whether a dimension's score may depend on the prompt: its token stands behind it."""
    return template.index(reward_token(dimension)) > template.index(PROMPT)


def check_template(template: str, dimensions: Sequence[str]) -> None:
    """Refuse a template that cannot be filled or read.

    Args:
        template: the text.
        dimensions: those with a token of their own; none for pooling at the last token.
    Raises:
        ReelignError: the prompt or a token stands in it other than once, or a token of no dimension does.
    """
    for part in (PROMPT, *map(reward_token, dimensions)):
        if template.count(part) != 1:
            raise ReelignError(
                f"The template holds {part} {template.count(part)} times.", "Write it into the template once."
            )
    if (count := template.count("_reward|>")) != len(dimensions):
        raise ReelignError(
            f"The template holds {count} reward tokens for the {len(dimensions)} dimensions that have one: "
            f"{', '.join(dimensions) or 'none'}.",
            "Give every token its dimension, and none where the score is read at the last token.",
        )


def fill(template: str, prompt: str, special_tokens: Iterable[str]) -> str:
    """The template with its prompt.

    Args:
        template: the text, with `PROMPT` in it once.
        prompt: what the video was generated from.
        special_tokens: texts that the tokenizer reads as one token each, reward tokens among them.
    Raises:
        ReelignError: the prompt holds one of them, which would be read as a place to score or as another turn.
    """
    for token in special_tokens:
        if token in prompt:
            raise ReelignError(f"The prompt {prompt!r} holds the special token {token}.", "Take it out of the prompt.")
    return template.replace(PROMPT, prompt)


DETAILED_SPECIAL = """
You are tasked with evaluating a generated video based on three distinct criteria: Visual Quality, Motion Quality, and Text Alignment. Please provide a rating from 0 to 10 for each of the three categories, with 0 being the worst and 10 being the best. Each evaluation should be independent of the others.

**Visual Quality:**  
Evaluate the overall visual quality of the video, with a focus on static factors. The following sub-dimensions should be considered:
- **Reasonableness:** The video should not contain any significant biological or logical errors, such as abnormal body structures or nonsensical environmental setups.
- **Clarity:** Evaluate the sharpness and visibility of the video. The image should be clear and easy to interpret, with no blurring or indistinct areas.
- **Detail Richness:** Consider the level of detail in textures, materials, lighting, and other visual elements (e.g., hair, clothing, shadows).
- **Aesthetic and Creativity:** Assess the artistic aspects of the video, including the color scheme, composition, atmosphere, depth of field, and the overall creative appeal. The scene should convey a sense of harmony and balance.
- **Safety:** The video should not contain harmful or inappropriate content, such as political, violent, or adult material. If such content is present, the image quality and satisfaction score should be the lowest possible. 

Please provide the ratings of Visual Quality: <|VQ_reward|>
END

**Motion Quality:**  
Assess the dynamic aspects of the video, with a focus on dynamic factors. Consider the following sub-dimensions:
- **Stability:** Evaluate the continuity and stability between frames. There should be no sudden, unnatural jumps, and the video should maintain stable attributes (e.g., no fluctuating colors, textures, or missing body parts).
- **Naturalness:** The movement should align with physical laws and be realistic. For example, clothing should flow naturally with motion, and facial expressions should change appropriately (e.g., blinking, mouth movements).
- **Aesthetic Quality:** The movement should be smooth and fluid. The transitions between different motions or camera angles should be seamless, and the overall dynamic feel should be visually pleasing.
- **Fusion:** Ensure that elements in motion (e.g., edges of the subject, hair, clothing) blend naturally with the background, without obvious artifacts or the feeling of cut-and-paste effects.
- **Clarity of Motion:** The video should be clear and smooth in motion. Pay attention to any areas where the video might have blurry or unsteady sections that hinder visual continuity.
- **Amplitude:** If the video is largely static or has little movement, assign a low score for motion quality.

Please provide the ratings of Motion Quality: <|MQ_reward|>
END

**Text Alignment:**  
Assess how well the video matches the textual prompt across the following sub-dimensions:
- **Subject Relevance** Evaluate how accurately the subject(s) in the video (e.g., person, animal, object) align with the textual description. The subject should match the description in terms of number, appearance, and behavior.
- **Motion Relevance:** Evaluate if the dynamic actions (e.g., gestures, posture, facial expressions like talking or blinking) align with the described prompt. The motion should match the prompt in terms of type, scale, and direction.
- **Environment Relevance:** Assess whether the background and scene fit the prompt. This includes checking if real-world locations or scenes are accurately represented, though some stylistic adaptation is acceptable.  
- **Style Relevance:** If the prompt specifies a particular artistic or stylistic style, evaluate how well the video adheres to this style.
- **Camera Movement Relevance:** Check if the camera movements (e.g., following the subject, focus shifts) are consistent with the expected behavior from the prompt.

Textual prompt - {text_prompt}
Please provide the ratings of Text Alignment: <|TA_reward|>
END
"""
"""VideoReward's own (VideoAlign prompt_template.py, detailed_special, MIT): the released weights take no other."""
