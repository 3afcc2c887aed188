"""A method in three short files: `encoder` (the features), `method` (pure data), `__main__`."""
