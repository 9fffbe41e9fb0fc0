"""Who is champion: the gate, its decisions, and the ledger that keeps them. Without MLflow."""
