"""Official splits, groups and class lists of the data sets the papers use, and a check of a copy.

`official`: which videos there are. `splits`: which are for training and which for test. `classes`:
class names and their orders. `check`: what a copy on disk lacks. `data/ORIGIN.md` says where the
lists come from.
"""
