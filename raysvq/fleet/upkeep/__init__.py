"""What keeps a fleet running: doctor and house-keeping."""
