"""Programs that run models, each as a `Scorer` and a `Generator`."""
