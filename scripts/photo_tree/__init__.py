"""What scripts/make_photo_tree.py makes, and how it knows what must become of each file."""
