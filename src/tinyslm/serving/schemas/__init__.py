"""Request bodies of OpenAI's API: supported fields, ignored fields, and fields that are rejected by name."""
