"""`python -m shared_eval`: methods, run, compare, check-method."""

from shared_eval.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
