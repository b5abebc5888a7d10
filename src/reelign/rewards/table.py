"""Which rewards there are: a line a source, by name."""

from __future__ import annotations

REWARDS: dict[str, str] = {
    "composed": "reelign.rewards.compose:Composed",
    "joints": "reelign.rewards.joints:Joints",
    "critic": "reelign.critics.rewarding:CriticReward",
    "dynamic-degree": "reelign.rewards.proxies:DynamicDegree",
    "frame-consistency": "reelign.rewards.proxies:FrameConsistency",
    "flicker": "reelign.rewards.proxies:Flicker",
    "sharpness": "reelign.rewards.proxies:Sharpness",
    "colour": "reelign.rewards.proxies:Colour",
    "clipscore": "reelign.rewards.clipscore:CLIPScore",
    "aesthetic": "reelign.rewards.aesthetic:LaionAesthetic",
    "pickscore": "reelign.rewards.pickscore:PickScore",
    "hpsv2": "reelign.rewards.hpsv2:HPSv2",
    "hpsv2.1": "reelign.rewards.hpsv2:HPSv21",
    "imagereward": "reelign.rewards.imagereward:ImageReward",
    "mps": "reelign.rewards.mps:MPS",
    "videoreward": "reelign.rewards.videoreward:VideoReward",
    "videoscore-qwen2-vl": "reelign.rewards.videoscore_qwen2_vl:VideoScoreQwen2VL",
    "yolos": "reelign.rewards.yolos:YolosRemoval",
    "videomae": "reelign.rewards.videomae:VideoMAEAction",
    "vjepa2": "reelign.rewards.vjepa2:VJEPA2Consistency",
    "videoscore": "reelign.rewards.videoscore:VideoScore",
    "videoscore-v1.1": "reelign.rewards.videoscore:VideoScoreV11",
    "videoscore2": "reelign.rewards.videoscore2:VideoScore2",
    "q-align": "reelign.rewards.qalign:QAlign",
}
"""Name -> `module:Class`; `opening.open_reward` opens one.

A class takes keywords alone; one with weights takes `model` (hub id or folder), `device` ('auto') and `dtype` ('auto').
Its module is imported for the card, before anything is opened: libraries of models are imported where they are used.
"""
