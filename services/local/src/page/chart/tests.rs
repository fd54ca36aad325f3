//! Pictures are XML whatever the texts in them are, and show what they say.

use super::*;
use crate::page::quantity::Quantity;
use crate::page::zone::Zone;

const START: i64 = 1_700_000_000;

fn frame(zone: &Zone, width: u32, height: u32) -> Frame<'_> {
    Frame {
        width,
        height,
        theme: &LIGHT,
        zone,
        start: START,
        end: START + 300,
        step: 1,
        interval: 1,
        newest: None,
        title: "<script>&\"'".to_owned(),
        note: "a\u{0}b".to_owned(),
        is_captioned: true,
        readings: vec![Reading {
            name: "</svg><b>".to_owned(),
            colour: "#1f6fd6".to_owned(),
            latest: "1".to_owned(),
            min: "0".to_owned(),
            max: "2".to_owned(),
        }],
    }
}

fn curve(points: &[(i64, f64)]) -> Curve {
    let points = points.iter().map(|&(at, value)| ((START + at) as f64, value)).collect();
    Curve { colour: LIGHT.lines[0], is_thin: false, points }
}

fn content(curves: Vec<Curve>) -> Lines {
    Lines {
        curves,
        band: None,
        is_filled: false,
        is_log: false,
        quantity: Quantity::default(),
        flags: Vec::new(),
    }
}

fn count(picture: &str, part: &str) -> usize {
    picture.matches(part).count()
}

#[test]
fn texts_in_a_picture_are_texts() {
    let zone = Zone::default();
    let frame = frame(&zone, 900, 300);
    let picture = lines(&frame, &content(vec![curve(&[(0, 1.0), (1, 2.0)])])).unwrap();
    assert!(
        !picture.contains("<script") && !picture.contains("<b>") && !picture.contains('\u{0}'),
        "{picture}"
    );
    assert_eq!((count(&picture, "<svg"), count(&picture, "</svg>"), count(&picture, "style")), (1, 1, 0));
    // The title stands in the root and in the picture, the reading in the description, in the metadata and in the legend.
    assert_eq!(count(&picture, "&lt;script&gt;"), 2, "{picture}");
    assert_eq!(count(&picture, "&lt;/svg&gt;"), 3, "{picture}");
}

#[test]
fn a_line_ends_where_points_are_missing_and_a_lone_point_is_a_dot() {
    let zone = Zone::default();
    let mut frame = frame(&zone, 400, 200);
    frame.is_captioned = false;
    let content = content(vec![curve(&[(0, 1.0), (1, 2.0), (2, 2.0), (10, 5.0), (20, 1.0), (21, 3.0)])]);
    let picture = lines(&frame, &content).unwrap();
    assert_eq!((count(&picture, "stroke=\"#1F6FD6\""), count(&picture, "<circle")), (2, 1), "{picture}");
    // The same points of a metric that is reported every ten seconds are one line.
    frame.interval = 10;
    let picture = lines(&frame, &content).unwrap();
    assert_eq!((count(&picture, "stroke=\"#1F6FD6\""), count(&picture, "<circle")), (1, 0), "{picture}");
}

#[test]
fn a_picture_without_data_says_so_at_any_size() {
    let zone = Zone::default();
    for (width, height) in [(100, 60), (340, 150), (4_000, 4_000)] {
        let frame = frame(&zone, width, height);
        let picture = lines(&frame, &content(Vec::new())).unwrap();
        assert!(picture.contains("nothing measured in this range"), "{picture}");
        let picture = heat(&frame, &Heat { columns: Vec::new(), quantity: Quantity::new("s") }).unwrap();
        assert!(picture.contains("no distribution in this range"), "{picture}");
        let empty = Bars { buckets: Vec::new(), quantity: Quantity::new("s"), quantiles: Vec::new() };
        assert!(bars(&frame, &empty).unwrap().contains("no distribution at this moment"));
    }
}

#[test]
fn values_that_are_no_numbers_break_nothing() {
    let zone = Zone::default();
    let frame = frame(&zone, 400, 200);
    let odd = [(0, f64::NAN), (1, f64::INFINITY), (2, -1e300), (3, 0.0), (4, 1e-300)];
    for is_log in [false, true] {
        let content = Lines { is_log, ..content(vec![curve(&odd)]) };
        let picture = lines(&frame, &content).unwrap();
        assert!(!picture.contains("NaN") && !picture.contains("inf"), "{picture}");
    }
}

#[test]
fn flags_stand_where_something_happened_and_only_inside_of_the_range() {
    let zone = Zone::default();
    let mut frame = frame(&zone, 400, 200);
    frame.is_captioned = false;
    let picture = |flags: Vec<i64>| {
        let content = Lines { flags, ..content(vec![curve(&[(0, 1.0), (299, 2.0)])]) };
        count(&lines(&frame, &content).unwrap(), "fill=\"#9A6700\"")
    };
    assert_eq!((picture(vec![]), picture(vec![START + 10, START + 20])), (0, 2));
    assert_eq!(picture(vec![START - 1, START + 301]), 0);
}

#[test]
fn a_heat_map_joins_neighbours_of_one_shade() {
    let zone = Zone::default();
    let mut frame = frame(&zone, 400, 200);
    frame.is_captioned = false;
    let cells = |buckets: Vec<Bucket>| {
        let columns = vec![Column { time: START, buckets }];
        let picture = heat(&frame, &Heat { columns, quantity: Quantity::new("s") }).unwrap();
        count(&picture, "<rect")
    };
    assert_eq!(cells(vec![Bucket { low: 0.1, high: 1.0, count: 8.0 }]), 1);
    let apart = [Bucket { low: 0.1, high: 0.2, count: 8.0 }, Bucket { low: 0.5, high: 1.0, count: 8.0 }];
    assert!(cells(apart.to_vec()) >= 2);
}
