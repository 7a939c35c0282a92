"""Read, clean, deduplicate and split documents, pack them into token shards, and load batches."""
