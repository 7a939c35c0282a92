"""Text to ids and back: training, loading and comparing tokenizers; chat templates."""
