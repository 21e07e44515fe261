"""`python -m agents` is `anabranch`."""

from agents.cli import main

if __name__ == "__main__":
    main()
