"""reelign: from opinions of generated videos to a better video generator."""
__version__ = "0.1.0"
