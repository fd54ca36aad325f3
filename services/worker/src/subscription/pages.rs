//! Replays of one broker: each page is asked for by subscribing to a topic nobody else knows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use zibrato_core::frame::{Replay, ReplayMessage, Topic};
use zmq::{Error, Socket};

use super::link::{cancel, subscribe};
use super::{End, Message, Output, PAGE_TRIES_MAX, count};

/// The replays under way at one broker, at most one a level.
#[derive(Debug)]
pub(super) struct Pages {
    under_way: Vec<Page>,
    timeout: Duration,
}

/// The page that one replay waits for.
#[derive(Debug)]
struct Page {
    level: Arc<str>,
    from: u32,
    tries: u32,
    /// `None` while there is no connection.
    asked: Option<Asked>,
}

#[derive(Debug)]
struct Asked {
    nonce: [u8; 8],
    topic: Topic,
    /// Frames of this page so far.
    received: u32,
    /// When something of it came, or it was asked for.
    moved: Instant,
}

impl Pages {
    pub(super) const fn new(timeout: Duration) -> Self {
        Self { under_way: Vec::new(), timeout }
    }

    /// Starts a replay of `level` unless one is under way. Without a connection it waits for
    /// [`Pages::connected`].
    pub(super) fn request(
        &mut self,
        level: &Arc<str>,
        socket: &Socket,
        connected: bool,
    ) -> Result<(), Error> {
        if self.under_way.iter().any(|page| page.level == *level) {
            return Ok(());
        }
        let mut page = Page { level: Arc::clone(level), from: 0, tries: 1, asked: None };
        if connected {
            page.ask(socket)?;
        }
        self.under_way.push(page);
        Ok(())
    }

    /// A connection came up: asks for every page that is not asked for.
    pub(super) fn connected(&mut self, socket: &Socket) -> Result<(), Error> {
        self.under_way.iter_mut().filter(|page| page.asked.is_none()).try_for_each(|page| page.ask(socket))
    }

    /// The connection was lost: pages will have to be asked for again, under a new name.
    pub(super) fn disconnected(&mut self, socket: &Socket) -> Result<(), Error> {
        self.under_way.iter_mut().try_for_each(|page| page.withdraw(socket))
    }

    /// Ends all replays without a word.
    pub(super) fn cancel(&mut self, socket: &Socket) -> Result<(), Error> {
        self.under_way.drain(..).try_for_each(|mut page| page.withdraw(socket))
    }

    /// Takes one message of an answer.
    pub(super) fn take(
        &mut self,
        message: &[u8],
        socket: &Socket,
        endpoint: usize,
        output: &mut Output,
    ) -> Result<(), End> {
        let parsed = ReplayMessage::parse(message);
        let Some((at, asked)) = parsed.as_ref().and_then(|parsed| self.asked_by(parsed)) else {
            count(&output.shared.replay_strays);
            return Ok(());
        };
        asked.moved = Instant::now();
        match parsed {
            Some(ReplayMessage::Frame { untopiced, .. }) => {
                asked.received = asked.received.saturating_add(1);
                let level = Arc::clone(&self.under_way[at].level);
                output.hand_on(endpoint, Message::Replayed { level, untopiced: untopiced.to_vec() })?;
            }
            Some(ReplayMessage::Trailer { count: frames, next, total, .. }) => {
                if asked.received < frames {
                    return self.ask_again(at, socket, endpoint, output);
                }
                count(&output.shared.replay_pages);
                self.next_page(at, next, total, socket, endpoint, output)?;
            }
            None => {}
        }
        Ok(())
    }

    /// Asks again for pages that stand still.
    pub(super) fn tick(&mut self, socket: &Socket, endpoint: usize, output: &mut Output) -> Result<(), End> {
        let late =
            |page: &Page| page.asked.as_ref().is_some_and(|asked| asked.moved.elapsed() >= self.timeout);
        let late: Vec<usize> = (0..self.under_way.len()).filter(|&at| late(&self.under_way[at])).collect();
        // From the last one on, because one that is given up leaves the list.
        for at in late.into_iter().rev() {
            self.ask_again(at, socket, endpoint, output)?;
        }
        Ok(())
    }

    fn asked_by(&mut self, message: &ReplayMessage<'_>) -> Option<(usize, &mut Asked)> {
        let (ReplayMessage::Frame { request, .. } | ReplayMessage::Trailer { request, .. }) = message;
        self.under_way.iter_mut().enumerate().find_map(|(at, page)| {
            let place = page.from == request.from && *page.level == *request.level;
            page.asked.as_mut().filter(|asked| place && asked.nonce == request.nonce).map(|asked| (at, asked))
        })
    }

    fn ask_again(
        &mut self,
        at: usize,
        socket: &Socket,
        endpoint: usize,
        output: &mut Output,
    ) -> Result<(), End> {
        count(&output.shared.replay_pages_short);
        let page = &mut self.under_way[at];
        page.withdraw(socket)?;
        if page.tries < PAGE_TRIES_MAX {
            page.tries += 1;
            page.ask(socket)?;
            return Ok(());
        }
        count(&output.shared.replays_given_up);
        let level = self.under_way.remove(at).level;
        output.hand_on(endpoint, Message::ReplayDone { level, complete: false })?;
        Ok(())
    }

    fn next_page(
        &mut self,
        at: usize,
        next: u32,
        total: u32,
        socket: &Socket,
        endpoint: usize,
        output: &mut Output,
    ) -> Result<(), End> {
        let page = &mut self.under_way[at];
        page.withdraw(socket)?;
        // A position that does not grow would go round in circles.
        if next < total && next > page.from {
            (page.from, page.tries) = (next, 1);
            page.ask(socket)?;
            return Ok(());
        }
        let level = self.under_way.remove(at).level;
        output.hand_on(endpoint, Message::ReplayDone { level, complete: next >= total })?;
        Ok(())
    }
}

impl Page {
    /// Subscribes under a new name. Without randomness there is none; the page then stays open
    /// until the next connection.
    fn ask(&mut self, socket: &Socket) -> Result<(), Error> {
        let mut nonce = [0; 8];
        if getrandom::fill(&mut nonce).is_err() {
            return Ok(());
        }
        let Some(topic) = (Replay { level: &self.level, nonce, from: self.from }).topic() else {
            return Ok(());
        };
        subscribe(socket, &topic)?;
        self.asked = Some(Asked { nonce, topic, received: 0, moved: Instant::now() });
        Ok(())
    }

    fn withdraw(&mut self, socket: &Socket) -> Result<(), Error> {
        match self.asked.take() {
            Some(asked) => cancel(socket, &asked.topic),
            None => Ok(()),
        }
    }
}
