"""Tools that come with tinyslm, and `named_tools`, which makes them by name."""
