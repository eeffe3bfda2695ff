"""The board under an agent: what it draws, how hot it is."""
