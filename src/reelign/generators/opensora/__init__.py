"""Open-Sora 1.2: its models in code of our own, by the released key names."""
