//! Sending as the original does: one text message for each measurement.

use std::collections::BTreeSet;
use std::time::Duration;

use zibrato_core::frame::legacy_topic;
use zibrato_core::legacy::Message;
use zibrato_service::Shutdown;

use super::measurement::{Measurement, Value};
use crate::broker_args::BrokerArgs;
use crate::clock::unix_ms;
use crate::courier::{Courier, CourierError};

/// See the module.
pub(super) struct Legacy {
    courier: Courier,
    levels: BTreeSet<String>,
    unheard: Vec<String>,
}

impl Legacy {
    pub(super) fn open(
        broker: &BrokerArgs,
        timeout: Duration,
        shutdown: &Shutdown,
    ) -> Result<Self, CourierError> {
        Ok(Self {
            courier: Courier::open(broker, timeout, shutdown)?,
            levels: BTreeSet::new(),
            unheard: Vec::new(),
        })
    }

    pub(super) fn publish(&mut self, measurement: &Measurement) -> Result<(), CourierError> {
        let Measurement { kind, name, level, source, .. } = measurement;
        if !self.levels.contains(level) {
            let topics: Vec<_> = legacy_topic(level).iter().map(|topic| topic.to_vec()).collect();
            for topic in &topics {
                if !self.courier.is_heard(topic)? {
                    self.unheard.push(level.clone());
                }
            }
            self.courier.prepare(&topics)?;
            self.levels.insert(level.clone());
        }
        let value = match measurement.value {
            Value::Whole(n) => n as f64,
            Value::Number(value) => value,
            Value::Duration(duration) => duration.as_secs_f64(),
        };
        let timestamp_s = unix_ms() / 1_000;
        let message = Message { level, kind: *kind, name, value, timestamp_s, source };
        self.courier.publish(message.to_string().as_bytes())
    }

    /// Reads what came back.
    pub(super) fn idle(&mut self) -> Result<(), CourierError> {
        self.courier.turn(Duration::ZERO)
    }

    /// Waits for everything; the levels that nobody subscribes to.
    pub(super) fn finish(mut self) -> Result<Vec<String>, CourierError> {
        self.courier.settle()?;
        Ok(self.unheard)
    }
}
