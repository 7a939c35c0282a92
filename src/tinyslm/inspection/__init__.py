"""Looking inside a model: probabilities of the tokens of a text, and what attends to what."""
