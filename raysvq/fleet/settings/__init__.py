"""fleet.yaml: its sections, its templates, and the cameras that they describe."""
