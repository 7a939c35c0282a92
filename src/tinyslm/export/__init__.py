"""Models for other runtimes, each proved against the original; and models from GGUF files."""
