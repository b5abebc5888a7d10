"""How the tables came to be, step by step, so that a workspace of an older reelign can be brought up to date."""
