"""Changes on disk become committed vectors."""
