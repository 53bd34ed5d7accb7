"""`python -m raysvq calibrate` as a job: ray job submit --working-dir . -- python jobs/calibrate.py …"""

import sys

from raysvq.__main__ import main

if __name__ == "__main__":
    main(["calibrate", *sys.argv[1:]])
