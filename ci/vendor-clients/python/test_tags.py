"""Tagged measurements: /v1/measurements."""

import time

from harness import MINUTE, ClientTest, connect
from librato.aggregator import Aggregator
from librato.exceptions import BadRequest


def series(answer):
    """The points of an answer, as tags to pairs of time and value."""
    return {
        tuple(sorted(one["tags"].items())): [(point["time"], point["value"]) for point in one["measurements"]]
        for one in answer["series"]
    }


class TagsTest(ClientTest):
    def tagged(self, name, **query):
        answer = self.api.get_tagged(name, **({"start_time": MINUTE, "resolution": 1} | query))
        self.assertEqual((answer["name"], answer["links"]), (name, []))
        return series(answer)


class Submitting(TagsTest):
    def test_a_measurement_reads_back_with_its_tags(self):
        self.api.submit("py.tag.one", 80.5, tags={"city": "sf", "Host": "Web 1"}, time=MINUTE)
        answer = self.api.get_measurements("py.tag.one", start_time=MINUTE, resolution=1)
        self.assertEqual(answer["name"], "py.tag.one")
        self.assertEqual(answer["resolution"], 1)
        self.assertEqual(answer["links"], [])
        self.assertTrue(answer["attributes"]["created_by_ua"].startswith("python-librato/"))
        self.assertEqual(series(answer), {(("city", "sf"), ("host", "web 1")): [(MINUTE, 80.5)]})

    def test_without_a_time_it_is_now(self):
        before = int(time.time())
        self.api.submit_tagged("py.tag.now", 1, tags={"city": "sf"})
        after = int(time.time())
        [(measured, value)] = self.tagged("py.tag.now", start_time=before)[(("city", "sf"),)]
        self.assertEqual(value, 1)
        self.assertTrue(before <= measured <= after, (before, measured, after))

    def test_without_tags_its_source_is_unassigned(self):
        self.api.submit_tagged("py.tag.none", 1, time=MINUTE)
        self.assertEqual(self.tagged("py.tag.none"), {(("source", "unassigned"),): [(MINUTE, 1)]})

    def test_a_duration_reaches_back_from_now(self):
        now = int(time.time())
        for age_s in [10, 900]:
            self.api.submit_tagged("py.tag.duration", age_s, tags={"city": "sf"}, time=now - age_s)
        answer = self.api.get_tagged("py.tag.duration", duration=600, resolution=1)
        self.assertEqual(series(answer), {(("city", "sf"),): [(now - 10, 10)]})

    def test_the_tags_of_the_connection_hold_unless_a_measurement_has_its_own(self):
        api = connect(tags={"company": "acme", "service": "app"})
        api.submit("py.tag.inherit", 1, time=MINUTE)
        api.submit("py.tag.inherit", 2, tags={"city": "sf"}, time=MINUTE)
        api.submit("py.tag.inherit", 3, tags={"city": "sf"}, inherit_tags=True, time=MINUTE)
        self.assertEqual(self.tagged("py.tag.inherit"), {
            (("company", "acme"), ("service", "app")): [(MINUTE, 1)],
            (("city", "sf"),): [(MINUTE, 2)],
            (("city", "sf"), ("company", "acme"), ("service", "app")): [(MINUTE, 3)],
        })

    def test_a_summary_is_submitted_with_an_empty_value(self):
        summary = {"sum": 35, "count": 4, "min": 4.5, "max": 16.5, "last": 4.5, "stddev": 1.34}
        self.api.submit("py.tag.summary", None, tags={"city": "sf"}, time=MINUTE, **summary)
        for function, value in [("mean", 8.75), ("sum", 35), ("count", 4), ("min", 4.5), ("max", 16.5)]:
            wanted = {(("city", "sf"),): [(MINUTE, value)]}
            with self.subTest(function):
                self.assertEqual(self.tagged("py.tag.summary", summary_function=function), wanted)
        self.assertEqual(self.tagged("py.tag.summary"), {(("city", "sf"),): [(MINUTE, 8.75)]})


class Batches(TagsTest):
    def test_701_measurements_go_out_in_three_requests_and_all_arrive(self):
        sent = {(("host", f"web{number}"),): [] for number in range(7)}
        queue = self.api.new_queue()
        for number in range(701):
            host, measured, value = f"web{number % 7}", MINUTE + number // 7, number * 0.1
            queue.add("py.tag.queue", value, tags={"host": host}, time=measured)
            sent[(("host", host),)].append((measured, value))
        with self.requests("POST", 3):
            queue.submit()
        self.assertEqual(self.tagged("py.tag.queue"), sent)

    def test_a_queue_has_tags_and_takes_source_based_gauges_beside_them(self):
        queue = self.api.new_queue(tags={"service": "api"})
        queue.add("py.tag.mixed", 1, time=MINUTE)
        queue.add("py.tag.mixed", 2, tags={"city": "sf"}, inherit_tags=True, time=MINUTE)
        queue.set_tags({})
        queue.add("py.tag.mixed.gauge", 3, source="web1", measure_time=MINUTE)
        with self.requests("POST", 2):
            queue.submit()
        self.assertEqual(self.tagged("py.tag.mixed"), {
            (("service", "api"),): [(MINUTE, 1)],
            (("city", "sf"), ("service", "api")): [(MINUTE, 2)],
        })
        self.assertEqual(self.tagged("py.tag.mixed.gauge"), {(("source", "web1"),): [(MINUTE, 3)]})

    def test_an_aggregator_has_tags(self):
        aggregator = Aggregator(self.api, tags={"city": "sf"}, period=60, measure_time=MINUTE + 59)
        for value in [3, 1, 4]:
            aggregator.add_tagged("py.tag.aggregator", value)
        aggregator.submit()
        for function, value in [("sum", 8), ("count", 3), ("min", 1), ("max", 4)]:
            wanted = {(("city", "sf"),): [(MINUTE, value)]}
            with self.subTest(function):
                self.assertEqual(self.tagged("py.tag.aggregator", summary_function=function), wanted)

    def test_the_good_measurements_of_a_request_are_stored_and_the_bad_ones_are_not(self):
        queue = self.api.new_queue()
        queue.add("py.tag.partial", 1, tags={"city": "sf"}, time=MINUTE)
        queue.add("py.tag partial", 2, tags={"city": "sf"}, time=MINUTE)
        queue.add("py.tag.partial.source", 3, tags={"city": "sf"}, source="web1", time=MINUTE)
        queue.add("py.tag.partial", 4, tags={"city": "la"}, time=MINUTE)
        queue.submit()
        self.assertEqual(
            self.tagged("py.tag.partial"), {(("city", "sf"),): [(MINUTE, 1)], (("city", "la"),): [(MINUTE, 4)]}
        )
        self.assert_absent("py.tag.partial.source")


class Reading(TagsTest):
    def setUp(self):
        super().setUp()
        rows = [("us-east", "web", 1), ("us-east", "db", 2), ("us-west", "web", 4), ("eu-west", "web", 8)]
        self.rows = {(("region", region), ("role", role)): [(MINUTE, value)] for region, role, value in rows}
        self.api.delete("py.tag.read")
        with self.api.new_queue() as queue:
            for region, role, value in rows:
                queue.add("py.tag.read", value, tags={"region": region, "role": role}, time=MINUTE)

    def chosen(self, **tags):
        return sorted(value for [(_, value)] in self.tagged("py.tag.read", tags=tags).values())

    def test_all_series_are_told_apart(self):
        self.assertEqual(self.tagged("py.tag.read"), self.rows)

    def test_tags_choose_by_name_and_pattern(self):
        self.assertEqual(self.chosen(region="us-east"), [1, 2])
        self.assertEqual(self.chosen(region="us*"), [1, 2, 4])
        self.assertEqual(self.chosen(region="us*", role="web"), [1, 4])
        self.assertEqual(self.chosen(region="!us*"), [8])
        self.assertEqual(self.chosen(host="*"), [])
        found = self.tagged("py.tag.read", tags_search="region=us-east* and role=*d*")
        self.assertEqual(list(found), [(("region", "us-east"), ("role", "db"))])

    def test_series_are_grouped_by_tags(self):
        def grouped(function, by):
            return self.tagged("py.tag.read", group_by=by, group_by_function=function)

        region = {"eu-west": 8, "us-east": 3, "us-west": 4}
        self.assertEqual(
            grouped("sum", "region"), {(("region", name),): [(MINUTE, value)] for name, value in region.items()}
        )
        self.assertEqual(grouped("max", "role"), {(("role", "db"),): [(MINUTE, 2)], (("role", "web"),): [(MINUTE, 8)]})
        self.assertEqual(grouped("mean", "*"), {(): [(MINUTE, 3.75)]})

    def test_a_coarser_resolution_floors_the_time_and_averages(self):
        with self.api.new_queue() as queue:
            for second in range(120):
                queue.add("py.tag.minutes", second, tags={"city": "sf"}, time=MINUTE + second)
        wanted = {(("city", "sf"),): [(MINUTE, 29.5), (MINUTE + 60, 89.5)]}
        self.assertEqual(self.tagged("py.tag.minutes", resolution=60), wanted)

    def test_a_resolution_beyond_a_week_is_refused(self):
        with self.assertRaises(BadRequest):
            self.tagged("py.tag.read", resolution=604_801)
        self.tagged("py.tag.read", resolution=604_800)

    def test_a_source_reads_as_a_tag(self):
        self.api.submit("py.tag.source", 1, source="web1", measure_time=MINUTE)
        self.api.submit("py.tag.source", 2, source="web2", measure_time=MINUTE)
        wanted = {(("source", "web1"),): [(MINUTE, 1)], (("source", "web2"),): [(MINUTE, 2)]}
        self.assertEqual(self.tagged("py.tag.source"), wanted)
        self.assertEqual(list(self.tagged("py.tag.source", tags={"source": "*2"})), [(("source", "web2"),)])
