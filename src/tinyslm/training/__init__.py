"""From shards to a model folder: optimizers, schedules, one loop, stages, runs that can be resumed."""
