"""`python -m raysvq tune` as a job: ray job submit --working-dir . -- python jobs/tune.py …"""

import sys

from raysvq.__main__ import main

if __name__ == "__main__":
    main(["tune", *sys.argv[1:]])
