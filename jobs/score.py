"""`python -m raysvq score` as a job: ray job submit --working-dir . -- python jobs/score.py …"""

import sys

from raysvq.__main__ import main

if __name__ == "__main__":
    main(["score", *sys.argv[1:]])
