"""What a run leaves on disk, read and written here alone: its folder, its features, its checkpoint files."""
