"""What a night has to do: the days to list, and what is new against the ledger."""
