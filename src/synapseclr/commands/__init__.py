"""Commands of ``kedro`` that this project adds or changes; ``synapseclr.cli`` joins them."""
