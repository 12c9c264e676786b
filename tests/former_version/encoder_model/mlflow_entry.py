"""The code of the MLflow model, which copies this file ("models from code") and runs it to load: needs synapseclr."""

from mlflow.models import set_model

from synapseclr.training.serving.encoder_model import EncoderModel

set_model(EncoderModel())
