# ruff: noqa: E501
"""What the checkpoints of UnifiedReward were trained on being asked, to the letter (CodeGoat24/UnifiedReward, MIT).

The text of a video's prompt stands for `{prompt}`.
"""

from __future__ import annotations

RANK = """\
Imagine you are an expert tasked with evaluating AI-generated videos. You are provided with a text caption and two videos generated based on that caption. Your job is to assess and compare these videos based on the following two main factors:

1. Caption Alignment: Evaluate how closely each video matches the description provided in the caption. Pay attention to the accuracy of objects depicted, their relationships, and any attributes described in the caption.

2. Overall Video Quality: Look at the overall visual appeal of each video, considering clarity, the level of detail, color accuracy, and how aesthetically pleasing the video is.

Using these factors, compare the two videos and determine which one better reflects the caption and exhibits better visual quality.

Give your final judgment, such as 'Video 1 is better,' 'Video 2 is better,' or 'Both videos are equally good.'

Your task is as follows:
Text Caption: [{prompt}]
"""
"""Which of two videos is better: UnifiedReward 1."""

SCORE = """\
Suppose you are an expert in judging and evaluating the quality of AI-generated videos, please watch the frames of a given video and see the text prompt for generating the video.
Then give scores from 5 different dimensions:
(1) visual quality: the quality of the video in terms of clearness, resolution, brightness, and color
(2) temporal consistency, the consistency of objects or humans in video
(3) dynamic degree, the degree of dynamic changes
(4) text-to-video alignment, the alignment between the text prompt and the video content
(5) factual consistency, the consistency of the video content with the common-sense and factual knowledge

For each dimension, output a number from [1,2,3,4], 
in which '1' means 'Bad', '2' means 'Average', '3' means 'Good', 
'4' means 'Real' or 'Perfect' (the video is like a real video)
Finally, based on above 5 dimensions, assign a score from 1 to 10 after 'Final Score:'
Here is an output example:
visual quality: 4
temporal consistency: 4
dynamic degree: 3
text-to-video alignment: 1
factual consistency: 2
Final Score: 6

**Note: In the example above, scores are placeholders meant only to demonstrate the format. Your actual evaluation should be based on the quality of the given video.**
Your task is provided as follows: Text Prompt: [{prompt}]"""
"""Five aspects of 1 to 4 and a final score of 1 to 10: UnifiedReward 1."""

RANK_2 = """\
You are presented with two generated videos (Video 1 and Video 2) along with a shared text caption. Your task is to comparatively evaluate the two videos across three specific dimensions:

- Alignment Score: How well each video matches the caption in terms of content.
- Coherence Score: How logically consistent and visually coherent each video is (absence of visual glitches, distorted objects, etc.).
- Style Score: How aesthetically appealing each video is, regardless of caption accuracy.

For each dimension, you must assign a relative score to Video 1 and Video 2, such that:
- Each score is a float between 0 and 1 (inclusive).
- The scores for Video 1 and Video 2 must sum to exactly 1.0 for each dimension.
- The higher the score, the better that video is in the corresponding dimension *relative to the other*.

This format emphasizes comparative quality rather than absolute evaluation.

Please provide your evaluation in the format below:

Alignment Score:
 Video 1: X
 Video 2: Y

Coherence Score:
 Video 1: X
 Video 2: Y

Style Score:
 Video 1: X
 Video 2: Y

Your task is provided as follows:
Text Caption: [{prompt}]"""
"""Shares of 1 for two videos on three aspects: UnifiedReward 2.0."""

SCORE_2 = """\
You are presented with a generated video and its associated text caption. Your task is to analyze the video across multiple dimensions in relation to the caption. Specifically:
Provide overall assessments for the video along the following axes (each rated from 1 to 5):
- Alignment Score: How well the video matches the caption in terms of content.
- Physics Score: How well the gravity, movements, collisions, and interactions make physical sense.
- Style Score: How visually appealing the video looks, regardless of caption accuracy.

Output your evaluation using the format below:

Alignment Score (1-5): X
Physics Score (1-5): Y
Style Score (1-5): Z

Your task is provided as follows:
Text Caption: [{prompt}]"""
"""Three aspects of 1 to 5: UnifiedReward 2.0."""

THINK = """\
You are an objective and precise evaluator for video quality comparison. I will provide you with a text caption and a sequence of consecutive frames extracted from two generated videos based on this caption. The first half of the frames belong to Video 1, and the second half of the frames belong to Video 2. You must analyze these two videos carefully and determine which video is better.

        Instructions (MUST follow strictly):
        1. All reasoning, analysis, explanations, and scores MUST be written strictly inside <think> and </think> tags.
        2. The <think> block must start immediately with the first evaluation dimension. Do NOT include any introduction, notes, or explanations before the first numbered dimension.
        3. After </think>, output the final judgment strictly inside <answer> and </answer> tags, containing only one of:
        - Video 1 is better
        - Video 2 is better
        4. Do NOT output anything outside <think> and <answer>. No extra explanations, notes, or prefaces.

        Evaluation procedure:

        1. The caption for the generated videos is: 「{prompt}」. The provided frames represent two candidate videos:
        - First half: Video 1
        - Second half: Video 2

        2. You must evaluate the two videos across these core dimensions:
        - Semantic consistency (how closely the video content aligns with the caption)
        - Temporal coherence (smoothness and logical flow of motion across frames)
        - Authenticity (realism and attention to detail)

        3. You may also add up to two additional evaluation dimensions if they are clearly relevant (e.g., camera stability, lighting consistency, creativity). If no extra dimensions are relevant, keep only the three core dimensions.

        4. For each evaluation dimension:
        - Provide a score between 1–10 for both Video 1 and Video 2.
        - Provide a short rationale for each score (2–5 short sentences).
        - Each dimension must follow exactly this 3-line block format with numbering, line breaks, and indentation:
            N. Dimension name: 
                Video 1 (x/10) - rationale; 
                Video 2 (y/10) - rationale

        5. After evaluating all dimensions, calculate the total score for each video and show the calculation explicitly, following this exact format:
            Total score:
            Video 1: x+x+x(+...)=total
            Video 2: y+y+y(+...)=total

        6. All reasoning, analysis, scoring, and totals must be written strictly inside <think> and </think> tags. Nothing related to reasoning or scores may appear outside <think>.

        Required output format (follow this exactly, including line breaks and indentation):

        <think>
        1. Semantic consistency: 
            Video 1 (9/10) - ...; 
            Video 2 (7/10) - ...
        2. Temporal coherence: 
            Video 1 (8/10) - ...; 
            Video 2 (6/10) - ...
        3. Authenticity: 
            Video 1 (7/10) - ...; 
            Video 2 (5/10) - ...
        [Additional dimension if any]: 
            Video 1 (8/10) - ...; 
            Video 2 (6/10) - ...
        [Additional dimension if any]: 
            Video 1 (7/10) - ...; 
            Video 2 (7/10) - ...
        Total score:
        Video 1: 9+8+7+8+7=39
        Video 2: 7+6+5+6+7=31
        </think>
        <answer>Video 1 is better</answer>

        Note: The example above is only to illustrate the exact format (numbering, line breaks, indentation, and style). Your actual evaluation must follow this format exactly, but be based on the given caption and the two provided videos (frames divided into two halves).
        """
"""Which of two videos is better, thought through aloud: UnifiedReward-Think."""
