"""``python -m recbole_mm`` is ``recbole-mm``."""

from recbole_mm.cli import main

if __name__ == "__main__":
    main()
