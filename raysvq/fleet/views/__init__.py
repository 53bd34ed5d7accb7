"""What is printed of a fleet: its check, its dry run, its state, the summary of a run."""
