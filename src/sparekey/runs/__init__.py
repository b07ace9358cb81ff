"""The durable workflow: apply, watch, roll back, undo; the engine is imported by `runs.py` only when used."""
