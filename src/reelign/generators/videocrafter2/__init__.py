"""VideoCrafter2 from its released checkpoint."""
