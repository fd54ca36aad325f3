//! What the ids of a device mean.

use zibrato_core::link::{Descriptor, LEVELS_MAX};

use super::metric::{Metric, SeriesKey};
use super::{Boot, Level};
use crate::DESCRIPTORS_MAX;
use crate::counts::DeviceCounts;
use crate::moment::Moment;

/// Two to this is how many numbers of samples each millisecond of uptime has, far more than a line carries.
const SAMPLE_NUMBERS_A_MS: u32 = 20;

impl Boot {
    /// Takes in what an id means. The first word on an id counts; it does not change while a boot lasts.
    pub(crate) fn describe(&mut self, descriptor: &Descriptor<'_>, counts: &mut DeviceCounts) {
        let id = usize::from(descriptor.id);
        if id >= DESCRIPTORS_MAX {
            return counts.refuse_descriptor("limit");
        }
        if let Some(Some(known)) = self.metrics.get(id) {
            if !known.is(descriptor, &self.levels[known.level].label) {
                counts.refuse_descriptor("changed");
            }
            return;
        }
        if self.refused.contains(&descriptor.id) {
            return;
        }
        let Some(level) = self.level_of(descriptor) else {
            self.refused.insert(descriptor.id);
            return counts.refuse_descriptor("level");
        };
        if !self.keys.insert(SeriesKey::of(descriptor, &self.setting.source)) {
            tracing::warn!(
                device = self.setting.source,
                name = descriptor.name,
                level = descriptor.level,
                "two metrics of the device are one series: the second is refused; give it another name, source or tag"
            );
            self.refused.insert(descriptor.id);
            return counts.refuse_descriptor("twice");
        }
        if self.metrics.len() <= id {
            self.metrics.resize_with(id + 1, || None);
        }
        self.metrics[id] = Some(Metric::new(level, descriptor, self.has_zero));
        self.metrics_known += 1;
        self.levels[level].metrics.push(descriptor.id);
    }

    fn level_of(&mut self, descriptor: &Descriptor<'_>) -> Option<usize> {
        let is_label = |level: &Level| level.label == descriptor.level;
        let is_number = |level: &Level| level.number == descriptor.level_number;
        match self.levels.iter().position(|level| is_label(level) || is_number(level)) {
            Some(at) => (is_label(&self.levels[at]) && is_number(&self.levels[at])).then_some(at),
            None if self.levels.len() == LEVELS_MAX => None,
            None => {
                // A gateway that ran before us handed out at most one part a millisecond, see `has_number`.
                let seq = if self.number == 0 { 0 } else { self.clock.first_uptime_ms() };
                self.levels.push(Level {
                    label: descriptor.level.to_owned(),
                    number: descriptor.level_number,
                    is_on_demand: descriptor.on_demand,
                    seq,
                    has_frame: false,
                    windows_since_key: 0,
                    handed_out: Moment::default(),
                    wants_key: true,
                    metrics: Vec::new(),
                    // Nor did it hand out more samples than this number is higher than its own first one.
                    samples_sent: seq << SAMPLE_NUMBERS_A_MS,
                    samples_lost: 0,
                });
                Some(self.levels.len() - 1)
            }
        }
    }
}
