"""What this machine can do: cores, memory, number formats, measured speeds."""
