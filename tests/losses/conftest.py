import pytest
import torch
from hypothesis import settings

# Same examples on every machine, nothing written to disk, no deadline on a busy one.
settings.register_profile("drsl", deadline=None, derandomize=True, database=None, max_examples=25)
settings.load_profile("drsl")


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
