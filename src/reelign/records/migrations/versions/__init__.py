"""One file per version of the tables; each knows the one before."""
