"""Semantic search for the pictures on your own disk."""
