"""Problems, with checks that answer a wrong submission with a counterexample."""
