"""Pixels and token ids become unit vectors; the only home of inference sessions."""
