"""Train, load, apply and compare tokenizers; render chat templates."""
