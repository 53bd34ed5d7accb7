"""`python -m raysvq promote` as a job: ray job submit --working-dir . -- python jobs/promote.py …"""

import sys

from raysvq.__main__ import main

if __name__ == "__main__":
    main(["promote", *sys.argv[1:]])
