"""`python -m agents` is `anabranch`."""

import sys
from pathlib import Path

if __name__ == "__main__":
    # The working directory is searched first, and may have folders that are called like ours.
    here = Path(__file__).resolve().parents[1]
    if not sys.flags.safe_path and Path(sys.path[0] or ".").resolve() != here:
        del sys.path[0]
    from topics.installation import main

    main()
