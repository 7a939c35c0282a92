"""The planner: what to train on a text within a budget, and what to expect of it.

`survey` looks at the text, `cost` at the machine; `law` says what a model will score, `choice` searches for the best
one, and `plan` is what comes of it, as a file that can be read and edited.
"""
