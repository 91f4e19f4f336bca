"""The metrics: each file declares METRIC or METRICS (``evaluate/metric.py``)."""
