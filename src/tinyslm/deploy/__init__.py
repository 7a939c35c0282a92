"""Bundles: folders that are ready to publish, made from a model folder."""
