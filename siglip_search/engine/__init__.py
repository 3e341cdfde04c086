"""The composition root: settings, models and the store become a library."""
