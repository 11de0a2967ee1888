"""What a run shows to people: tables, pages, plots."""
