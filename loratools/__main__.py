"""``python -m loratools``, which is also what ``accelerate launch -m loratools`` runs."""

from loratools.cli import main

if __name__ == "__main__":
    main()
