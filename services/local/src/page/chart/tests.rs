use super::*;
use crate::page::quantity::Quantity;
use crate::page::zone::Zone;

fn frame(zone: &Zone, w: u32, h: u32, is_captioned: bool) -> Frame<'_> {
    Frame {
        width: w,
        height: h,
        theme: &LIGHT,
        zone,
        start: 1_700_000_000,
        end: 1_700_000_300,
        step: 1,
        title: "loop.<work> & more".into(),
        is_captioned,
        readings: vec![Reading {
            name: "p50".into(),
            colour: "#0b8577".into(),
            latest: "1.2 ms".into(),
            min: "1 ms".into(),
            max: "4 ms".into(),
        }],
    }
}

#[test]
fn scratch() {
    let zone = Zone::parse("60").unwrap();
    let f = frame(&zone, 900, 300, true);
    let c = |k: f64, colour, is_thin| Curve {
        colour,
        is_thin,
        points: (0..300)
            .filter(|i| !(100..120).contains(i))
            .map(|i| {
                (
                    1_700_000_000.5 + i as f64,
                    0.001
                        * k
                        * (1.0 + 0.3 * ((i as f64) / 9.0).sin() + 0.1 * ((i * 7919 % 13) as f64) / 13.0),
                )
            })
            .collect(),
    };
    let q = LIGHT.quantiles;
    let l = Lines {
        curves: vec![c(1.0, q[0], false), c(3.0, q[1], false), c(6.0, q[2], false), c(30.0, q[3], true)],
        band: None,
        is_filled: false,
        is_log: true,
        quantity: Quantity::new("s"),
        flags: vec![1_700_000_150],
        interval: 1,
    };
    std::fs::write("/tmp/page-shots/lines.svg", lines(&f, &l).unwrap()).unwrap();
    let f2 = frame(&zone, 340, 150, false);
    std::fs::write("/tmp/page-shots/card.svg", lines(&f2, &l).unwrap()).unwrap();
    let columns = (0..300)
        .map(|i| Column {
            time: 1_700_000_000 + i,
            buckets: (0..40)
                .map(|b| Bucket {
                    low: 0.001 * 1.1f64.powi(b),
                    high: 0.001 * 1.1f64.powi(b + 1),
                    count: (1000.0
                        * (-((b as f64 - 15.0 - 5.0 * (i as f64 / 30.0).sin()) / 4.0).powi(2)).exp())
                    .floor(),
                })
                .filter(|b| b.count > 0.0)
                .collect(),
        })
        .collect::<Vec<_>>();
    let h = Heat { columns: columns.clone(), quantity: Quantity::new("s") };
    std::fs::write("/tmp/page-shots/heat.svg", heat(&f, &h).unwrap()).unwrap();
    let b = Bars {
        buckets: columns[17].buckets.clone(),
        quantity: Quantity::new("s"),
        quantiles: vec![("p50", 0.004), ("p95", 0.0055), ("p99", 0.006), ("max", 0.0078)],
    };
    std::fs::write("/tmp/page-shots/bars.svg", bars(&f, &b).unwrap()).unwrap();
}
