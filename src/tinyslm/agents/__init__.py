"""Agents: typed functions as tools, the loop that lets a model use them, and MCP in both directions."""
