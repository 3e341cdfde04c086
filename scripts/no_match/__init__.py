"""How well a model says that nothing matches: what is asked, and how the answers are judged."""
