"""The sounding burst: made, found, and what it tells of the channel."""
