"""Each wrong value is one clear line."""

import pytest

from polyencoders.errors import TrainingError
from polyencoders.training import TrainingOptions


@pytest.mark.parametrize("name", ["steps", "batch_size", "negatives", "validation_queries", "seed"])
@pytest.mark.parametrize("value", [-1, 2.5, "10", True, None])
def test_whole_numbers(name, value):
    least = 0 if name == "seed" else 1
    with pytest.raises(TrainingError, match=rf"^{name} must be a whole number of at least {least}, got {value!r}$"):
        TrainingOptions(**{name: value})
    TrainingOptions(**{name: least})


@pytest.mark.parametrize("name", ["mini_batch_size", "evaluate_every", "patience", "candidates"])
def test_whole_numbers_that_may_be_left_out(name):
    least = 2 if name == "candidates" else 1
    with pytest.raises(TrainingError, match=rf"^{name} must be a whole number of at least {least}, got 0$"):
        TrainingOptions(**{name: 0})
    assert getattr(TrainingOptions(**{name: None}), name) is None


@pytest.mark.parametrize("name", ["learning_rate", "code_learning_rate"])
@pytest.mark.parametrize("value", [0, -1e-5, "1e-4", True, float("nan"), float("inf")])
def test_learning_rates(name, value):
    several = ", or several" if name == "learning_rate" else ""
    with pytest.raises(TrainingError, match=rf"^{name} must be a number above 0{several}, got {value!r}$"):
        TrainingOptions(**{name: value})


@pytest.mark.parametrize("value", [[], [1e-4, 0], [1e-4, "3e-4"], [1e-4, 1e-4], {1e-4}])
def test_several_learning_rates(value):
    with pytest.raises(TrainingError, match=r"^learning_rate must be a number above 0, or several, got "):
        TrainingOptions(learning_rate=value)


@pytest.mark.parametrize("value", [1, "yes"])
def test_bf16(value):
    with pytest.raises(TrainingError, match=rf"^bf16 must be true, false or left out, got {value!r}$"):
        TrainingOptions(bf16=value)


@pytest.mark.parametrize("value", [5, None, [1], ["backbone", None]])
def test_freeze(value):
    with pytest.raises(TrainingError, match=r"^freeze must be a name or a list of names, got "):
        TrainingOptions(freeze=value)


def test_the_learning_rate_suits_what_is_trained():
    assert TrainingOptions().learning_rates(validated=True) == (5e-5,)
    assert TrainingOptions(freeze="embeddings").learning_rates(validated=True) == (5e-5,)
    for freeze in ("backbone", ["documents", "backbone"]):
        assert TrainingOptions(freeze=freeze).learning_rates(validated=True) == (1e-4, 3e-4, 1e-3)
        assert TrainingOptions(freeze=freeze).learning_rates(validated=False) == (3e-4,)
    assert TrainingOptions(freeze="backbone", learning_rate=1).learning_rates(validated=True) == (1,)
    assert TrainingOptions(learning_rate=[1, 2]).learning_rates(validated=True) == (1, 2)
