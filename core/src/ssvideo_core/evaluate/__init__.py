"""From frozen features to numbers: `svm`, `retrieval`, `accuracy`, and their `intervals`."""
