"""Many requests without anybody waiting for them: files of rows (batch) and folders of files (watch)."""
