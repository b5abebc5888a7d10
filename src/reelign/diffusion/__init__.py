"""The canonical flow, its noise levels and its samplers."""
