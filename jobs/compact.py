"""`python -m raysvq compact` as a job: ray job submit --working-dir . -- python jobs/compact.py …"""

import sys

from raysvq.__main__ import main

if __name__ == "__main__":
    main(["compact", *sys.argv[1:]])
