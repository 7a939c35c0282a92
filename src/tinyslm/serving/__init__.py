"""A server that programs written for OpenAI's API can use as it is, and its chat page."""
