"""Build your own small language model: text in, a trained and measured model folder out."""
