"""The append-only record of runs: its store, its events, the copies beside it and their verification."""
