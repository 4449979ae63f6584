"""What `stockade demo` shows: a weak API, attacks on it, and the table of who stopped what."""
