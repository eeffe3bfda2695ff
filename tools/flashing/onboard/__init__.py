"""What runs on a board, packed into one file that needs nothing but the board's Python (3.10)."""
