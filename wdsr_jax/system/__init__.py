"""What surrounds the program: processes, files, memory, the terminal."""
