"""`python -m raysvq VERB …`: the command line, and what the scripts in `jobs/` call."""

from raysvq.cli import main

if __name__ == "__main__":
    main()
