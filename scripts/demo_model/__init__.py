"""The world, scenes, captions and towers of the bundled demonstration model.

Run the scripts beside this folder; nothing here ships in the wheel.
"""
