"""One cell of a study: a policy, a setting and a seed, computed and stored."""
