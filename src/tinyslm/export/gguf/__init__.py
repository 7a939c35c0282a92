"""GGUF, llama.cpp's file format: models written for it, proved in it, and read from it."""
