"""The Hugging Face side: experts replaced, forward passes followed, text fed in."""
