"""How AMNet is trained: its data sets, its losses and recipe, its scores, ablations and sheets."""
