"""The course of `tinyslm learn`: pages that show every part of a model with the numbers of the reader's own one."""
