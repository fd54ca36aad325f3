"""Prints the points of OTLP requests as JSON, a line each, read with OpenTelemetry's own code.

Standard input: for each request its length (32 bits, big-endian) and its body, protobuf with or without gzip.
"""

import gzip
import json
import struct
import sys

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality


def requests(data):
    at = 0
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        body = data[at + 4 : at + 4 + length]
        at += 4 + length
        # No protobuf begins so.
        yield ExportMetricsServiceRequest.FromString(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)


def one_of(message, name, otherwise=None):
    field = message.WhichOneof(name)
    return otherwise if field is None else getattr(message, field)


def attributes(pairs):
    return {pair.key: one_of(pair.value, "value") for pair in pairs}


def optional(message, name):
    return getattr(message, name) if message.HasField(name) else None


def distribution(point):
    return {
        "count": point.count,
        "sum": optional(point, "sum"),
        "min": optional(point, "min"),
        "max": optional(point, "max"),
    }


def content(kind, point):
    if kind in ("sum", "gauge"):
        return {"value": one_of(point, "value")}
    if kind == "histogram":
        return distribution(point) | {
            "bounds": list(point.explicit_bounds),
            "buckets": list(point.bucket_counts),
        }
    if kind == "exponential_histogram":
        assert not any(point.negative.bucket_counts), "buckets of negative values"
        return distribution(point) | {
            "scale": point.scale,
            "zero": point.zero_count,
            "offset": point.positive.offset,
            "buckets": list(point.positive.bucket_counts),
        }
    raise ValueError(f"no reader of {kind}")


def points(request):
    for of_resource in request.resource_metrics:
        for of_scope in of_resource.scope_metrics:
            for metric in of_scope.metrics:
                kind = metric.WhichOneof("data")
                if kind is None:
                    raise ValueError(f"{metric.name} has no data")
                data = getattr(metric, kind)
                general = {
                    "name": metric.name,
                    "unit": metric.unit,
                    "kind": kind,
                    "resource": attributes(of_resource.resource.attributes),
                }
                if kind != "gauge":
                    temporality = AggregationTemporality.Name(data.aggregation_temporality)
                    general["temporality"] = temporality.removeprefix("AGGREGATION_TEMPORALITY_").lower()
                if kind == "sum":
                    general["monotonic"] = data.is_monotonic
                for point in data.data_points:
                    yield general | content(kind, point) | {
                        "attributes": attributes(point.attributes),
                        "start_ns": point.start_time_unix_nano,
                        "time_ns": point.time_unix_nano,
                    }


for request in requests(sys.stdin.buffer.read()):
    for point in points(request):
        print(json.dumps(point, allow_nan=False))
