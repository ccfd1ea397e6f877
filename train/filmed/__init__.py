"""Films of real people as data: who is in them, where a face stays long enough, its landmarks."""
