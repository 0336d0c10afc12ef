"""Train, evaluate and compare: ``python run_recbole_mm.py --model=MMFusion --dataset=imdb``."""

from recbole_mm.cli import main

if __name__ == "__main__":
    main()
