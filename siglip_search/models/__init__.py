"""Facts about models and the files that hold them; no inference."""
