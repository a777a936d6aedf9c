"""``python -m emt_plugin.cli``, for programs that start a module."""

import sys

from emt_plugin.cli.commands import main

sys.exit(main())
