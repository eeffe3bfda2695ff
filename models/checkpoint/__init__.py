"""A Hugging Face mixture-of-experts checkpoint, read expert by expert."""
