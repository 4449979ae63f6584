"""The keys that sign: sealed at rest (`seal.py`), held in memory and rotated with overlap (`keyring.py`)."""
