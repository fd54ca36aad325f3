"""Annotations: /v1/annotations."""

from harness import MINUTE, ClientTest
from librato.exceptions import BadRequest, NotFound


class Annotations(ClientTest):
    def post(self, stream, title, **properties):
        return self.api.post_annotation(stream, title=title, **properties)

    def titles(self, stream, **query):
        events = self.api.get_annotation_stream(stream, **query).events
        return {source: [event["title"] for event in events[source]] for source in events}

    def test_an_event_reads_back_with_all_that_was_said_of_it(self):
        link = {"rel": "build", "href": "https://ci.example.org/7", "label": "Build 7"}
        said = {
            "title": "Build 7",
            "source": "ci.example.org",
            "description": "the seventh, \u00fcber alles getestet",
            "links": [link],
            "start_time": MINUTE,
            "end_time": MINUTE + 30,
        }
        posted = self.api.post_annotation("py.builds", **said)
        event = self.api.get_annotation_stream("py.builds", start_time=MINUTE).events["ci.example.org"]
        self.assertEqual(event, [posted])
        self.assertEqual({key: posted[key] for key in said}, said)
        self.assertIsInstance(posted["id"], int)
        self.assertEqual(self.api.get_annotation("py.builds", posted["id"]).name, "py.builds")

    def test_an_event_needs_no_more_than_a_title(self):
        posted = self.post("py.bare", "now")
        self.assertEqual([posted[key] for key in ("source", "description", "end_time", "links")], [None, None, None, []])
        self.assertEqual(self.titles("py.bare", start_time=posted["start_time"]), {"unassigned": ["now"]})

    def test_events_are_chosen_by_time_and_source(self):
        for number, source in enumerate(["db1", "db2", "web1"]):
            self.post("py.chosen", f"deploy {number}", source=source, start_time=str(MINUTE + number))
        every = {"db1": ["deploy 0"], "db2": ["deploy 1"], "web1": ["deploy 2"]}
        self.assertEqual(self.titles("py.chosen", start_time=str(MINUTE)), every)
        self.assertEqual(self.titles("py.chosen", start_time=MINUTE + 2), {"web1": ["deploy 2"]})
        first = {"db1": ["deploy 0"], "db2": ["deploy 1"]}
        self.assertEqual(self.titles("py.chosen", start_time=MINUTE, end_time=MINUTE + 1), first)
        for sources, wanted in [(["db1", "web1"], ["db1", "web1"]), (["db*"], ["db1", "db2"])]:
            self.assertEqual(sorted(self.titles("py.chosen", start_time=MINUTE, sources=sources)), wanted)

    def test_streams_are_listed_found_and_deleted(self):
        names = [f"py.stream.{number:03}" for number in range(120)]
        for name in names:
            self.post(name, "x")
        self.assertEqual([stream.name for stream in self.api.list_annotation_streams(name="PY.STREAM.")], names)
        self.assertEqual(self.api.get_annotation_stream(names[0]).name, names[0])
        self.api.delete_annotation_stream(names[0])
        with self.refused(NotFound, 404, "request: Not Found"):
            self.api.get_annotation_stream(names[0], start_time=MINUTE)
        self.assertEqual([stream.name for stream in self.api.list_annotation_streams(name="py.stream.")], names[1:])

    def test_a_stream_gets_a_display_name(self):
        self.post("py.displayed", "x")
        # Librato answers 204, and this client then looks for a name in nothing.
        with self.assertRaises(TypeError):
            self.api.update_annotation_stream("py.displayed", display_name="Deploys to the API")
        self.assertEqual(self.api.get_annotation_stream("py.displayed").display_name, "Deploys to the API")

    def test_an_end_before_the_start_and_a_missing_title_are_refused(self):
        with self.refused(BadRequest, 400, "params: start_time: must be before end_time"):
            self.post("py.refused", "x", start_time=MINUTE, end_time=MINUTE - 1)
        with self.refused(BadRequest, 400, "params: title: is not present"):
            self.api.post_annotation("py.refused", description="no title")
        with self.refused(NotFound, 404, "request: Not Found"):
            self.api.get_annotation_stream("py.refused")
