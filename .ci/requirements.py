"""Print the requirements of setup.cfg, RecBole left out: it is installed without dependencies.

Arguments name extras to add.
"""

import configparser
import pathlib
import sys

config = configparser.ConfigParser()
config.read(pathlib.Path(__file__).resolve().parent.parent / "setup.cfg")
lines = config["options"]["install_requires"].splitlines()
for extra in sys.argv[1:]:
    lines += config["options.extras_require"][extra].splitlines()
print("\n".join(line for line in lines if line and not line.startswith("recbole")))
