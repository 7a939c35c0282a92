"""The planner chooses a model and settings for a text and a budget, and predicts the score.

`survey` measures the text, `cost` the machine; `law` predicts the score of a model, `choice` searches for the best
one, and `plan` stores the result in a file that the user can read and edit.
"""
