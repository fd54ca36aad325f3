"""Source-based metrics: /v1/metrics."""

import time

import librato
from harness import GUARDED, MINUTE, TOKEN, USER, ClientTest, connect, points
from librato.aggregator import Aggregator
from librato.exceptions import BadRequest, Unauthorized
from librato.metrics import Counter, Gauge


class Submitting(ClientTest):
    def test_a_gauge_reads_back_with_all_that_was_said_of_it(self):
        self.api.submit("py.gauge", 36.6, source="web1", measure_time=MINUTE, description="warm", period=60)
        gauge = self.api.get("py.gauge", count=10, resolution=1)
        self.assertIsInstance(gauge, Gauge)
        self.assertEqual((gauge.name, gauge.description, gauge.period), ("py.gauge", "warm", 60))
        self.assertTrue(gauge["created_by_ua"].startswith(f"python-librato/{librato.__version__} "))
        self.assertEqual(list(gauge.measurements), ["web1"])
        [point] = gauge.measurements["web1"]
        wanted = {"measure_time": MINUTE, "value": 36.6, "count": 1}
        self.assertEqual({key: point[key] for key in wanted}, wanted)

    def test_a_counter_keeps_its_absolute_values(self):
        for step, value in enumerate([100, 200, 350, 2**53 - 1]):
            self.api.submit("py.counter", value, type="counter", source="web1", measure_time=MINUTE + step)
        counter = self.api.get("py.counter", count=10, resolution=1)
        self.assertIsInstance(counter, Counter)
        values = [100, 200, 350, 2**53 - 1]
        self.assertEqual(points(counter, "web1"), [(MINUTE + step, value) for step, value in enumerate(values)])

    def test_time_and_source_have_defaults(self):
        before = int(time.time())
        self.api.submit("py.defaults", 1)
        after = int(time.time())
        gauge = self.api.get("py.defaults", count=1, resolution=1)
        [(measured, value)] = points(gauge)
        self.assertEqual(value, 1)
        self.assertTrue(before <= measured <= after, (before, measured, after))

    def test_a_time_may_be_a_fraction_or_text(self):
        self.api.submit("py.times", 1, measure_time=MINUTE + 0.75)
        self.api.submit("py.times", 2, measure_time=str(MINUTE + 1))
        gauge = self.api.get("py.times", start_time=MINUTE, resolution=1)
        self.assertEqual(points(gauge), [(MINUTE, 1), (MINUTE + 1, 2)])

    def test_a_metric_object_adds_to_itself(self):
        self.api.submit("py.object", 1, source="a", measure_time=MINUTE)
        self.api.get("py.object").add(2, source="a", measure_time=MINUTE + 1)
        gauge = self.api.get("py.object", count=10, resolution=1)
        self.assertEqual(points(gauge, "a"), [(MINUTE, 1), (MINUTE + 1, 2)])

    def test_names_are_one_whatever_their_case(self):
        self.api.submit("py.Case", 1, measure_time=MINUTE)
        self.api.submit("PY.CASE", 2, measure_time=MINUTE + 1)
        gauge = self.api.get("py.case", count=10, resolution=1)
        self.assertEqual(gauge.name, "py.Case")
        self.assertEqual(points(gauge), [(MINUTE, 1), (MINUTE + 1, 2)])

    def test_a_sanitized_name_is_found_by_the_same_client(self):
        api = connect(sanitizer=librato.sanitize_metric_name)
        name = "py.sanitized [%s] " % ("x" * 300)
        api.submit(name, 5, measure_time=MINUTE)
        gauge = api.get(name, count=1, resolution=1)
        self.assertEqual(gauge.name, librato.sanitize_metric_name(name))
        self.assertEqual(points(gauge), [(MINUTE, 5)])


class Queues(ClientTest):
    def test_701_measurements_go_out_in_three_requests_and_all_arrive(self):
        sent = {f"web{number}": [] for number in range(7)}
        queue = self.api.new_queue()
        for number in range(701):
            source, measured, value = f"web{number % 7}", MINUTE + number // 7, number * 0.1
            queue.add("py.queue", value, source=source, measure_time=measured)
            sent[source].append((measured, value))
        with self.requests("POST", 3):
            queue.submit()
        gauge = self.api.get("py.queue", start_time=MINUTE, resolution=1)
        self.assertEqual({source: points(gauge, source) for source in gauge.measurements}, sent)

    def test_a_queue_takes_both_kinds_and_submits_at_the_end_of_its_block(self):
        with self.api.new_queue() as queue:
            queue.add("py.block.gauge", -1.5, measure_time=MINUTE)
            queue.add("py.block.counter", 7, type="counter", measure_time=MINUTE)
        for name, kind, value in [("py.block.gauge", Gauge, -1.5), ("py.block.counter", Counter, 7)]:
            metric = self.api.get(name, count=1, resolution=1)
            self.assertIsInstance(metric, kind)
            self.assertEqual(points(metric), [(MINUTE, value)])

    def test_a_queue_submits_by_itself_when_it_is_told_to(self):
        queue = self.api.new_queue(auto_submit_count=10)
        for number in range(15):
            queue.add("py.auto", number, measure_time=MINUTE + number)
        values = [(MINUTE + number, number) for number in range(15)]
        self.assertEqual(points(self.api.get("py.auto", count=99, resolution=1)), values[:10])
        queue.submit()
        self.assertEqual(points(self.api.get("py.auto", count=99, resolution=1)), values)

    def test_one_bad_measurement_refuses_its_whole_request(self):
        queue = self.api.new_queue()
        queue.add("py.whole.one", 1)
        queue.add("py.whole two", 2)
        queue.add("py.whole.three", 3)
        with self.refused(BadRequest, 400, "params: name: py.whole two is not a valid metric name"):
            queue.submit()
        self.assert_absent("py.whole.one", "py.whole.three")


class Aggregators(ClientTest):
    VALUES = [3, 1, 4, 1, 5, 9, 2, 6]

    def assert_summary(self, name, source, measured):
        gauge = self.api.get(name, count=10, resolution=1)
        self.assertEqual(list(gauge.measurements), [source])
        [point] = gauge.measurements[source]
        wanted = {"measure_time": measured, "count": 8, "sum": 31, "min": 1, "max": 9, "value": 31 / 8}
        self.assertEqual({key: point[key] for key in wanted}, wanted)

    def test_a_summary_arrives_whole_at_its_period(self):
        aggregator = Aggregator(self.api, source="web1", period=60, measure_time=MINUTE + 59)
        for value in self.VALUES:
            aggregator.add("py.aggregator", value)
        aggregator.submit()
        self.assert_summary("py.aggregator", "web1", MINUTE)

    def test_a_summary_goes_through_a_queue_as_well(self):
        aggregator = Aggregator(self.api, source="web2", measure_time=MINUTE)
        for value in self.VALUES:
            aggregator.add("py.aggregator.queued", value)
        with self.api.new_queue() as queue:
            queue.add_aggregator(aggregator)
        self.assert_summary("py.aggregator.queued", "web2", MINUTE)


class Listing(ClientTest):
    def test_250_metrics_are_listed_in_pages(self):
        names = [f"py.page.{number:03}" for number in range(250)]
        with self.api.new_queue() as queue:
            for name in names:
                queue.add(name, 1)
        self.assertEqual([metric.name for metric in self.api.list_all_metrics(name="py.page.")], names)
        first = self.api.list_metrics(name="PY.PAGE.")
        self.assertEqual([metric.name for metric in first], names[:100])
        page = self.api.list_metrics(name="py.page.", offset=240, length=100)
        self.assertEqual([metric.name for metric in page], names[240:])
        last = self.api.list_metrics(name="py.page.", length=2, sort="desc", orderby="name")
        self.assertEqual([metric.name for metric in last], names[:-3:-1])

    def test_a_search_without_a_hit_is_an_empty_list(self):
        self.assertEqual(self.api.list_metrics(name="py.no.such.metric"), [])

    def test_a_longer_page_than_100_is_refused(self):
        with self.assertRaises(BadRequest):
            self.api.list_metrics(length=101)


class Reading(ClientTest):
    def test_sources_are_chosen_by_name_pattern_and_list(self):
        with self.api.new_queue() as queue:
            for source in ["web1", "web2", "db1"]:
                queue.add("py.sources", 1, source=source, measure_time=MINUTE)

        def chosen(**query):
            return sorted(self.api.get("py.sources", count=1, resolution=1, **query).measurements)

        self.assertEqual(chosen(), ["db1", "web1", "web2"])
        self.assertEqual(chosen(source="web*"), ["web1", "web2"])
        self.assertEqual(chosen(source="WEB2"), ["web2"])
        self.assertEqual(chosen(sources=["db1", "web2"]), ["db1", "web2"])

    def test_a_coarser_resolution_summarizes(self):
        with self.api.new_queue() as queue:
            for second in range(120):
                queue.add("py.minutes", second, source="a", measure_time=MINUTE + second)
        gauge = self.api.get("py.minutes", start_time=MINUTE, resolution=60)
        rows = [
            [row[key] for key in ("measure_time", "value", "count", "sum", "min", "max")]
            for row in gauge.measurements["a"]
        ]
        self.assertEqual(rows, [[MINUTE, 29.5, 60, 1770, 0, 59], [MINUTE + 60, 89.5, 60, 5370, 60, 119]])

    def test_count_takes_the_first_after_a_start_and_the_last_before_an_end(self):
        with self.api.new_queue() as queue:
            for second in range(10):
                queue.add("py.counted", second, measure_time=MINUTE + second)

        def values(**query):
            gauge = self.api.get("py.counted", resolution=1, **query)
            return [value for _, value in points(gauge)]

        self.assertEqual(values(count=3), [7, 8, 9])
        self.assertEqual(values(count=3, start_time=MINUTE + 2), [2, 3, 4])
        self.assertEqual(values(count=3, end_time=MINUTE + 5), [3, 4, 5])
        self.assertEqual(values(start_time=MINUTE + 3, end_time=MINUTE + 6), [3, 4, 5, 6])

    def test_sources_and_times_are_summarized(self):
        with self.api.new_queue() as queue:
            for source, first in [("a", 1), ("b", 10)]:
                for second in range(2):
                    queue.add("py.summarized", first + second, source=source, measure_time=MINUTE + second)
        gauge = self.api.get("py.summarized", start_time=MINUTE, resolution=1, summarize_sources=True)
        self.assertEqual(sorted(gauge.measurements), ["a", "all", "b"])
        rows = [(row["measure_time"], row["count"], row["sum"]) for row in gauge.measurements["all"]]
        self.assertEqual(rows, [(MINUTE, 2, 11), (MINUTE + 1, 2, 13)])
        gauge = self.api.get("py.summarized", start_time=MINUTE, resolution=1, summarize_time=True)
        rows = {
            source: [(row["measure_time"], row["count"], row["sum"]) for row in rows]
            for source, rows in gauge.measurements.items()
        }
        self.assertEqual(rows, {"a": [(MINUTE, 2, 3)], "b": [(MINUTE, 2, 21)]})

    def test_an_unknown_metric_is_not_found(self):
        self.assert_absent("py.no.such.metric")


class Changing(ClientTest):
    def test_properties_and_attributes_are_updated(self):
        self.api.submit("py.update", 1, description="before")
        attributes = self.api.get("py.update").attributes
        attributes.update(display_units_short="ms", display_min=0, color="#52D74C")
        changed = {"display_name": "An update", "description": "after", "period": 10, "attributes": attributes}
        self.assertIsNone(self.api.update("py.update", **changed))
        gauge = self.api.get("py.update")
        self.assertEqual((gauge.description, gauge.period), ("after", 10))
        self.assertEqual(gauge.attributes, attributes)

    def test_attributes_may_be_text_and_of_any_name(self):
        self.api.submit("py.update.text", 1, attributes={"aggregate": True}, period=10)
        gauge = self.api.get("py.update.text")
        self.assertEqual((gauge["aggregate"], gauge.period), (True, 10))
        # Librato's own example of an update has both.
        gauge.attributes.update(display_min="0", display_name="Temperature in Celsius")
        self.api.update(gauge.name, attributes=gauge.attributes)
        gauge = self.api.get(gauge.name)
        self.assertEqual((gauge["display_min"], gauge["display_name"]), (0, "Temperature in Celsius"))

    def test_an_update_creates_a_metric_whose_type_it_names(self):
        created = self.api.update("py.created", type="counter", description="new", period=15)
        self.assertEqual([created[key] for key in ("name", "type", "period")], ["py.created", "counter", 15])
        counter = self.api.get("py.created", count=1, resolution=1)
        self.assertIsInstance(counter, Counter)
        self.assertEqual((counter.description, counter.measurements), ("new", {}))

    def test_an_update_without_a_type_creates_nothing(self):
        with self.assertRaises(BadRequest):
            self.api.update("py.not.created", description="new")
        self.assert_absent("py.not.created")

    def test_a_deleted_metric_and_its_points_are_gone(self):
        self.api.submit("py.deleted", 1, measure_time=MINUTE)
        self.api.delete("py.deleted")
        self.assert_absent("py.deleted")
        self.api.delete("py.deleted")
        self.api.submit("py.deleted", 2, type="counter", measure_time=MINUTE + 1)
        counter = self.api.get("py.deleted", count=10, resolution=1)
        self.assertEqual(points(counter), [(MINUTE + 1, 2)])

    def test_many_are_deleted_at_once_and_no_others(self):
        names = [f"py.many.{number}" for number in range(4)]
        for name in names:
            self.api.submit(name, 1)
        self.api.delete(names[:3] + ["py.no.such.metric"])
        self.assert_absent(*names[:3])
        self.assertEqual([metric.name for metric in self.api.list_metrics(name="py.many.")], names[3:])


class Refusals(ClientTest):
    def test_a_type_clash_names_the_metric_and_what_it_is(self):
        self.api.submit("py.clash", 1)
        text = "params: type: 'py.clash' is a gauge, but was submitted as different type"
        with self.refused(BadRequest, 400, text):
            self.api.submit("py.clash", 1, type="counter")

    def test_bad_measurements_are_named(self):
        too_old = int(time.time()) - 3 * 3600
        rows = [
            (("py bad", 1), {}, "params: name: py bad is not a valid metric name"),
            (("py.bad", 1), {"source": "a b"}, "params: source: a b is not a valid source name"),
            (("py.bad", 1), {"source": "all"}, "params: source: all is not a valid source name"),
            (("py.bad", 1), {"measure_time": too_old}, "params: measure_time: is too far in the past"),
            (("py.bad", -1, "counter"), {}, "params: value: must be positive, params: name: py.bad"),
            (("py.bad", None), {"count": 3}, "params: sum: is required, params: name: py.bad"),
        ]
        for arguments, properties, text in rows:
            with self.subTest(text), self.refused(BadRequest, 400, text):
                self.api.submit(*arguments, **properties)
        with self.assertRaises(BadRequest):
            self.api.submit("py.bad", float("nan"))
        self.assert_absent("py.bad")


class Credentials(ClientTest):
    def test_wrong_and_missing_ones_are_refused_and_store_nothing(self):
        for user, token in [(USER, "wrong"), (USER, ""), ("", ""), (USER, TOKEN + "x")]:
            api = connect(GUARDED, user, token)
            with self.subTest(user=user, token=token):
                with self.refused(Unauthorized, 401, "request: Authorization Required"):
                    api.list_metrics()
                with self.refused(Unauthorized, 401, "Credentials are required to access this resource."):
                    api.submit("py.stolen", 1)
        self.assertEqual(connect(GUARDED, token=TOKEN).list_metrics(name="py.stolen"), [])

    def test_the_token_is_good_as_password_and_as_user(self):
        for number, (user, token) in enumerate([(USER, TOKEN), (TOKEN, "")]):
            name = f"py.guarded.{number}"
            api = connect(GUARDED, user, token)
            api.submit(name, number, measure_time=MINUTE)
            self.assertEqual(points(api.get(name, count=1, resolution=1)), [(MINUTE, number)])
