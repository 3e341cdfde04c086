"""Hits become things that people look at."""
