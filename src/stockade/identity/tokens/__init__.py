"""What is issued: opaque access tokens to clients (`access.py`), signed ones to the upstream (`internal.py`)."""
