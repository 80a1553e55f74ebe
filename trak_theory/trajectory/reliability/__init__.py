"""How far an attribution can be trusted: paths followed without retraining, audits, and the labels they give."""
