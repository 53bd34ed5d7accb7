"""`python -m raysvq index` as a job: ray job submit --working-dir . -- python jobs/index.py …"""

import sys

from raysvq.__main__ import main

if __name__ == "__main__":
    main(["index", *sys.argv[1:]])
