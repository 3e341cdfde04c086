"""Words become token ids of fixed length."""
