from synapseclr.datasets import NoTrainingDataset
from synapseclr.pipelines.reporting.contents import describe_training


def test_a_report_on_published_weights_says_that_there_was_no_training():
    section = describe_training(NoTrainingDataset().load())
    assert "made elsewhere" in section.text[0]
    assert not section.pictures
