"""The transformer: its shape, its parts, the families that it can be read and written as, and model folders."""
