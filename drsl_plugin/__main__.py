"""``python -m drsl_plugin``: the ``drsl`` command."""

from drsl_plugin.cli import main

if __name__ == "__main__":
    main()
