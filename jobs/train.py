"""`python -m raysvq train` as a job: ray job submit --working-dir . -- python jobs/train.py …"""

import sys

from raysvq.__main__ import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
