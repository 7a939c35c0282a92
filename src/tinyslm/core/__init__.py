"""Settings, errors, files, the console, plots, pages and the worker process, for all other folders. No torch here."""
