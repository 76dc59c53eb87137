"""`python -m zipml_codec`: the command `zipml`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
