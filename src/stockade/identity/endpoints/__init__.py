"""The endpoints. Each is a straight list of named steps; the steps that several share are in `form.py`."""
