"""The bodies of OpenAI's API: what of them is understood here, what is let pass, and what is refused by name."""
