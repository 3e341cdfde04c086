"""Killing real processes of the program again and again, and judging what they leave."""
