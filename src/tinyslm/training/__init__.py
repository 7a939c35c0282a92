"""From shards to a model folder: optimizers, schedules, one loop, objectives, runs that can be resumed."""
