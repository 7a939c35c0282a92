"""Parts of a training step in C++, compiled on the user's machine; each is written in PyTorch elsewhere."""
