"""The forms of a network that price lists price, and what they are called in the report."""

from collections.abc import Mapping

ANN, MASKED, DENSE_SPIKING, SPIKING = "ann", "integer_masked_skipping", "snn_dense", "snn"
UNCHANGED = "integer_masked_unchanged"
FORMS: Mapping[str, str] = {
    ANN: "ANN, float32",
    "integer_dense": "quantised ANN, dense",
    "integer_dense_skipping": "quantised ANN, dense, skips zeros",
    "integer_masked": "quantised ANN, same mask",
    MASKED: "quantised ANN, same mask, skips zeros",
    UNCHANGED: "quantised ANN, same mask, skips unchanged",
    "int8_dense": "int8 ANN, dense",
    "int8_dense_skipping": "int8 ANN, dense, skips zeros",
    "int8_masked": "int8 ANN, same mask",
    "int8_masked_skipping": "int8 ANN, same mask, skips zeros",
    DENSE_SPIKING: "dense SNN",
    "snn_dense_encoder_once": "dense SNN, input layer computed once",
    "snn_dense_encoder_every_step": "dense SNN, input layer at every step",
    SPIKING: "sparse SNN",
    "snn_encoder_once": "sparse SNN, input layer computed once",
    "snn_encoder_every_step": "sparse SNN, input layer at every step",
}
SHORT: Mapping[str, str] = {
    ANN: "ANN float32",
    "integer_dense": "Quantised, dense",
    MASKED: "Quantised, same mask, skips zeros",
    UNCHANGED: "Quantised, same mask, skips unchanged",
    DENSE_SPIKING: "Dense SNN",
    SPIKING: "Sparse SNN",
}


_SPOKEN: Mapping[str, str] = {
    MASKED: "the quantised ANN with the same mask, skipping zeros",
    UNCHANGED: "the quantised ANN with the same mask, skipping what did not change",
    "integer_masked": "the quantised ANN with the same mask",
    "integer_dense_skipping": "the dense quantised ANN, skipping zeros",
    "integer_dense": "the dense quantised ANN",
    "int8_masked_skipping": "the int8 ANN with the same mask, skipping zeros",
    "int8_masked": "the int8 ANN with the same mask",
    "int8_dense_skipping": "the dense int8 ANN, skipping zeros",
    "int8_dense": "the dense int8 ANN",
    ANN: "the ANN in fp32",
    DENSE_SPIKING: "the dense SNN",
}


def spoken(form: str) -> str:
    """A form within a sentence; one that is new keeps its own name."""
    return _SPOKEN.get(form, form)


def called(form: str) -> str:
    """A form's name; one that is new keeps its own."""
    return FORMS.get(form, form)
