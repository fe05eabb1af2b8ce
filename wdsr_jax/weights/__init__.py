"""Weight files: this package's and other projects'."""
