"""`python -m raysvq inspect` as a job: ray job submit --working-dir . -- python jobs/inspect_fleet.py …

A script that is called inspect.py would stand in the way of Python's own module.
"""

import sys

from raysvq.__main__ import main

if __name__ == "__main__":
    main(["inspect", *sys.argv[1:]])
