"""VAE decoders in pieces along time, exact."""
