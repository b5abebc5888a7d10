"""`python -m reelign`: what `torchrun -m reelign align` and `accelerate launch -m reelign align` start."""

from reelign.cli import main

if __name__ == "__main__":
    main()
