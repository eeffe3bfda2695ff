"""One expert layer of one step: selected, sent, computed, booked; again for what failed."""
