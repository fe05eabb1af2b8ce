"""Settings and fixtures of all tests.

No array changes its rank or dtype in silence, and shapes in annotations are checked at run time. There are
two CPU devices, and a cache folder of the tests' own.
"""

import http.server
import logging
import os
import shutil
import signal
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path

# XLA's CPU collectives need a thread pool of twice the devices (main.py sees to it for runs); read at import.
os.environ.setdefault("NPROC", "4")
import jax
import pytest
from absl import logging as absl_logging
from hypothesis import settings
from jax.experimental.compilation_cache import compilation_cache
from jaxtyping import install_import_hook

from tests.tiny import write_photo

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

install_import_hook(
    [
        "wdsr_jax.image.metrics",
        "wdsr_jax.inference",
        "wdsr_jax.models",
        "wdsr_jax.training.adversarial",
        "wdsr_jax.training.losses",
        "wdsr_jax.training.perceptual",
        "wdsr_jax.training.step",
    ],
    "beartype.beartype",
)

# The same examples in every run: a change is judged by what it changes. CONTRIBUTING.md has fresh ones.
settings.register_profile("same", derandomize=True)
settings.load_profile("same")

# Images and compiled programs that tests cache by default: not among those of whoever runs them.
_cache = tempfile.TemporaryDirectory()
os.environ["XDG_CACHE_HOME"] = _cache.name

# A shell's background jobs, CI among them, ignore Ctrl-C, and so would the processes that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def compile_cache(tmp_path_factory):
    """Compiles each program once for all tests, those of other pytest-xdist workers too."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if base.name.startswith("popen-") else base) / "compiled"
    before = {}
    for name, value in {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_disable_most_optimizations": True,  # compiles in half the time
    }.items():
        before[name] = jax.config.values[name]
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield folder
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture(autouse=True)
def logging_as_it_was():
    """Undoes `set_up_logging`, after which no line reaches the `caplog` of later tests."""
    loggers = logging.getLogger(), absl_logging.get_absl_logger()
    before = [(list(logger.handlers), logger.propagate, logger.level) for logger in loggers]
    yield
    for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A folder of six smooth images; the last of them is held out for validation."""
    folder = tmp_path_factory.mktemp("photos")
    for i in range(6):
        write_photo(folder / f"photo{i}.png", seed=i)
    return folder


@pytest.fixture(scope="session")
def image_cache(tmp_path_factory):
    """A folder for decoded images, which all tests share."""
    return tmp_path_factory.mktemp("image_cache")


@pytest.fixture(scope="session")
def shared():
    """`../shared/data`: benchmark images, photographs, clips and weights, too large for the repository."""
    folder = Path(__file__).parents[2] / "shared/data"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    return folder


@pytest.fixture
def serve():
    """Starts an HTTP server on this machine: `serve(handler class)` is its address, without a last slash."""
    with ExitStack() as stack:

        def start(handler):
            server = stack.enter_context(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
            threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
            stack.callback(server.shutdown)
            return f"http://127.0.0.1:{server.server_port}"

        yield start


@pytest.fixture
def browser():
    """Chromium, driven by Selenium; both are installed by hand where such tests are to run."""
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "headless",
        "no-sandbox",
        "disable-gpu",
        "no-first-run",
        "disable-background-networking",
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()
