"""An application whose import ends only by a signal."""

import json
import os
import signal
from pathlib import Path

with Path(os.environ["DIARY"]).open("a") as diary:
    diary.write(json.dumps({"event": "importing", "key": "waits"}) + "\n")
signal.pause()
