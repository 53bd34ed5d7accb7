"""A night at work: scoring, the ledger's rows, what is watched, who is told, the record."""
