"""From a public source, or files of one's own, to a folder of atomic files."""
