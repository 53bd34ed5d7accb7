"""`python -m raysvq compare` as a job: ray job submit --working-dir . -- python jobs/compare.py …"""

import sys

from raysvq.__main__ import main

if __name__ == "__main__":
    main(["compare", *sys.argv[1:]])
