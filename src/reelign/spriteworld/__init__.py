"""The small world: one moving shape with a caption, its true judges, its simulated people and a tiny pipeline."""
