"""The background service: follow folders, answer queries while the towers are warm."""
