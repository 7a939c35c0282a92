"""From sources to documents, clean and without repetitions, split, packed into token shards, and loaded in batches."""
