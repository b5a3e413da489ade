"""Parts of a command line that training, export and serving share; it imports none."""
