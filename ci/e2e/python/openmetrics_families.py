"""Prints the families of a page of OpenMetrics as JSON, a line each, read with the parser of prometheus_client.

Standard input: the page. Exits with 1 and what is wrong on standard error unless it is one.
"""

import json
import sys

from prometheus_client.openmetrics.parser import text_string_to_metric_families

page = sys.stdin.buffer.read().decode()
try:
    families = list(text_string_to_metric_families(page))
except ValueError as error:
    sys.exit(str(error))
for family in families:
    print(json.dumps({
        "name": family.name,
        "help": family.documentation,
        "type": family.type,
        "unit": family.unit,
        "samples": [[sample.name, sample.labels, sample.value] for sample in family.samples],
    }))
