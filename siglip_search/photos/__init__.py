"""Files on disk become upright RGB pixels."""
