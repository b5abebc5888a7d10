"""The web page where people judge: what is asked, of whom, and what comes of it."""

from reelign.annotate.settings import AnnotateSettings, DefectTag, Dimension, Example, Gold

__all__ = ["AnnotateSettings", "DefectTag", "Dimension", "Example", "Gold"]
