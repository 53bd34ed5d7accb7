"""Two weeks of a fleet in a quarter of an hour: `python -m devtools.rehearsal`, see docs/rehearsal.md."""
