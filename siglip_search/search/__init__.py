"""A question becomes ranked pictures."""
