"""Which rewards there are: a line a source, by name."""

from __future__ import annotations

REWARDS: dict[str, str] = {
    "dynamic-degree": "reelign.rewards.proxies:DynamicDegree",
    "frame-consistency": "reelign.rewards.proxies:FrameConsistency",
    "flicker": "reelign.rewards.proxies:Flicker",
    "sharpness": "reelign.rewards.proxies:Sharpness",
    "colour": "reelign.rewards.proxies:Colour",
}
"""Name -> `module:Class`; `opening.open_reward` opens one.

A class takes keywords alone; one with weights takes `model` (hub id or folder), `device` ('auto') and `dtype` ('auto').
Its module is imported for the card, before anything is opened: libraries of models are imported where they are used.
"""
