"""Results for people: the report, its page, tables of energy."""
