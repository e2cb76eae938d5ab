"""What every test runs under, whatever the shell that started it has set."""

import os

for _name in [name for name in os.environ if name.startswith("SWITCHYARD_")]:
    del os.environ[_name]
# Read once, when torch and the hub libraries are first imported. Each xdist worker gets one thread, so that
# two of them do not fight over two cores; no test may look for a model hub.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
