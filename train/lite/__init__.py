"""AMNet-lite: the search for a smaller Reenactor, and what it takes from a trained one."""
