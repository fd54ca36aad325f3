//! What was found out.

use serde::Serialize;

/// How a check ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Ok,
    /// Worth knowing: something was lost, or is not as it should be for long.
    Warn,
    /// What is measured does not arrive, or the numbers do not add up.
    Fail,
}

/// One line of the result.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Finding {
    /// The service that was looked at.
    pub(super) about: String,
    /// What was looked at.
    pub(super) check: &'static str,
    pub(super) state: State,
    /// What is so.
    pub(super) text: String,
    /// What to do about it.
    pub(super) advice: Option<String>,
}

/// All lines, in order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Findings {
    about: String,
    list: Vec<Finding>,
}

impl Findings {
    /// What follows is about this service.
    pub(super) fn about(&mut self, about: impl Into<String>) {
        self.about = about.into();
    }

    pub(super) fn ok(&mut self, check: &'static str, text: impl Into<String>) {
        self.push(check, State::Ok, text.into(), None);
    }

    pub(super) fn warn(&mut self, check: &'static str, text: impl Into<String>, advice: impl Into<String>) {
        self.push(check, State::Warn, text.into(), Some(advice.into()));
    }

    pub(super) fn fail(&mut self, check: &'static str, text: impl Into<String>, advice: impl Into<String>) {
        self.push(check, State::Fail, text.into(), Some(advice.into()));
    }

    pub(super) fn list(&self) -> &[Finding] {
        &self.list
    }

    /// How many checks ended so.
    pub(super) fn count(&self, state: State) -> usize {
        self.list.iter().filter(|finding| finding.state == state).count()
    }

    /// The finding of a check, if there is one.
    #[cfg(test)]
    pub(super) fn of(&self, check: &str) -> Option<&Finding> {
        self.list.iter().find(|finding| finding.check == check)
    }

    fn push(&mut self, check: &'static str, state: State, text: String, advice: Option<String>) {
        self.list.push(Finding { about: self.about.clone(), check, state, text, advice });
    }
}
