//! Gateways that were named: whether their devices are there, and what their lines lost.

use zibrato_service::{GatewayDevice, GatewayReport, Report};

use super::facts::{Asked, Facts};
use super::finding::Findings;
use super::service::{clock, law, status};
use crate::human::{age, plural};

/// Looks at the gateways.
pub(super) fn examine(facts: &Facts, findings: &mut Findings) {
    for asked in &facts.gateways {
        findings.about(format!("gateway {}", asked.addr));
        examine_one(asked, findings);
    }
}

fn examine_one(asked: &Asked, findings: &mut Findings) {
    let answer = match &asked.answer {
        Ok(answer) => answer,
        Err(error) => {
            let advice = "start zibrato-gateway, or give its status address in --gateway";
            return findings.fail("status", &error.text, advice);
        }
    };
    let Report::Gateway(report) = &answer.report else {
        let text = format!("{} is another service, not zibrato-gateway", asked.addr);
        return findings.fail("status", text, "give the status address of zibrato-gateway in --gateway");
    };
    status(asked.addr, &report.process, findings);
    clock(answer.skew_ms, findings);
    law(&answer.report, findings);
    devices(report, findings);
}

fn devices(report: &GatewayReport, findings: &mut Findings) {
    for device in report.devices.iter().filter(|device| !device.over) {
        let heard = device.heard_ms.map_or_else(|| "nothing yet".to_owned(), |ms| format!("{} ago", age(ms)));
        let text = format!("{} at {}: last frame {heard}", device.source, device.port);
        if device.brokers == 0 {
            let advice = "start the broker, or give the gateway its address in --host and --port";
            findings.fail("device", format!("{text}; no broker is connected"), advice);
        } else if let Some(error) = &device.error {
            findings.fail("device", format!("{text}; {error}"), "plug it in, or give the gateway its port");
        } else if !device.connected {
            let advice = "look whether it runs, and whether --baud is its own";
            findings.fail("device", text, advice);
        } else {
            findings.ok(
                "device",
                format!("{text}; {} of {}", device.metrics, plural(device.metrics_total as usize, "metric")),
            );
        }
        line(device, findings);
    }
}

fn line(device: &GatewayDevice, findings: &mut Findings) {
    let bad: u64 = device.bad.values().sum();
    let text = format!(
        "{} of {}: {} lost, {bad} damaged",
        device.source,
        plural(device.frames as usize, "frame"),
        device.frames_lost
    );
    if device.lost_on_device > 0 {
        findings.warn(
            "line",
            format!("{text}; {} lost on the device", device.lost_on_device),
            "make its rings larger, or poll its link more often; counts in cells are exact all the same",
        );
    } else if device.frames_lost > device.frames / 100 {
        findings.warn(
            "line",
            text,
            "look at cable, ground and baud rate; totals are exact, samples are lost",
        );
    } else {
        findings.ok("line", text);
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn a_device_that_is_away_fails_and_a_bad_line_is_a_warning() {
        let good = GatewayDevice { connected: true, brokers: 1, frames: 1_000, ..GatewayDevice::default() };
        let states = |change: fn(&mut GatewayDevice)| {
            let mut device = good.clone();
            change(&mut device);
            let mut findings = Findings::default();
            devices(&GatewayReport { devices: vec![device], ..GatewayReport::default() }, &mut findings);
            findings.list().iter().map(|finding| finding.state).collect::<Vec<_>>()
        };
        assert_eq!(states(|_| ()), [State::Ok, State::Ok]);
        assert_eq!(states(|device| device.brokers = 0), [State::Fail, State::Ok]);
        assert_eq!(states(|device| device.error = Some("gone".to_owned())), [State::Fail, State::Ok]);
        assert_eq!(states(|device| device.connected = false), [State::Fail, State::Ok]);
        assert_eq!(states(|device| device.frames_lost = 11), [State::Ok, State::Warn]);
        assert_eq!(states(|device| device.lost_on_device = 1), [State::Ok, State::Warn]);
        assert!(states(|device| device.over = true).is_empty());
    }
}
