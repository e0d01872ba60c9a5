"""The command line, as ``python -m pretextkit``."""

import sys

from pretextkit.cli import main

if __name__ == "__main__":  # worker processes import this file
    sys.exit(main())
