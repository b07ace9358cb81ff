"""The usage sources: one module each (`interface.py` has its shape), found by its name."""
