"""The chalk command line: click, over the public names of chalkcompute."""
