"""The decoder's step in C++, compiled on the user's machine."""
