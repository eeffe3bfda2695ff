"""What a link does to a signal: gain, fading, paths, path loss, and how estimates age."""
