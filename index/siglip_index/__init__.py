"""The vector-index engine: photos, files and vectors, consistent with one another."""
