use std::sync::mpsc::sync_channel;

use zibrato_core::frame::{
    Forwarded, PublisherId, Replay, ReplayMessage, TOPIC_FORWARDED, TOPIC_STATE, legacy_topic, topic,
};
use zibrato_std::socket::{broker_out, recv_now};
use zmq::{Context, Socket};

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);
/// So long that it does not happen in a test.
const NEVER: Timing =
    Timing { resubscribe: Duration::from_secs(3_600), page_timeout: Duration::from_secs(3_600) };

/// A broker's outgoing socket, played by hand.
struct Broker {
    socket: Socket,
    endpoint: String,
}

impl Broker {
    fn bind(context: &Context, endpoint: &str) -> Self {
        let socket = broker_out(context).unwrap();
        // A socket that was closed a moment ago may still hold its address.
        until(|| socket.bind(endpoint).is_ok().then_some(()));
        let endpoint = socket.get_last_endpoint().unwrap().unwrap();
        Self { socket, endpoint }
    }

    fn new(context: &Context) -> Self {
        Self::bind(context, "tcp://127.0.0.1:*")
    }

    /// The next subscription (1) or cancellation (0) and its topic.
    fn next(&self) -> Vec<u8> {
        until(|| recv_now(&self.socket).unwrap()).to_vec()
    }

    /// Takes the next `n`, sorted.
    fn take(&self, n: usize) -> Vec<Vec<u8>> {
        let mut taken: Vec<_> = (0..n).map(|_| self.next()).collect();
        taken.sort();
        taken
    }

    fn send(&self, message: impl AsRef<[u8]>) {
        self.socket.send(message.as_ref(), 0).unwrap();
    }

    /// Waits for a page to be asked for.
    fn asked(&self) -> Vec<u8> {
        loop {
            let message = self.next();
            if let [1, topic @ ..] = &message[..]
                && Replay::parse(topic).is_some()
            {
                return topic.to_vec();
            }
        }
    }

    /// Answers a page: frames that are their number, and a trailer.
    fn answer(&self, topic: &[u8], frames: std::ops::Range<u32>, trailer: [u8; 13]) {
        for frame in frames {
            self.send([topic, &[ReplayMessage::FRAME_MARK], &frame.to_le_bytes()].concat());
        }
        self.send([topic, &trailer].concat());
    }
}

/// Polls until `probe` gives something.
fn until<T>(mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < end, "nothing within {DEADLINE:?}");
        thread::park_timeout(Duration::from_millis(1));
    }
}

fn started(
    context: &Context,
    endpoints: &[&Broker],
    levels: &[&str],
    timing: Timing,
) -> (Subscription, Receiver<Arc<Incoming>>) {
    let (sender, receiver) = sync_channel(100_000);
    let endpoints: Vec<_> = endpoints.iter().map(|broker| broker.endpoint.clone()).collect();
    let levels: Vec<_> = levels.iter().map(|level| (*level).to_owned()).collect();
    let subscription =
        Subscription::start_with(context, &endpoints, &levels, vec![("a".to_owned(), sender)], timing)
            .unwrap();
    (subscription, receiver)
}

/// The next message but for news of connections.
fn receive(receiver: &Receiver<Arc<Incoming>>) -> Incoming {
    loop {
        let incoming = receiver.recv_timeout(DEADLINE).unwrap();
        if incoming.message != Message::Connected {
            return Incoming::clone(&incoming);
        }
    }
}

fn published(receiver: &Receiver<Arc<Incoming>>) -> Vec<u8> {
    match receive(receiver).message {
        Message::Published(bytes) => bytes,
        other => panic!("{other:?}"),
    }
}

/// The topics of a level, each behind `first`, sorted.
fn topics(first: u8, level: &str) -> Vec<Vec<u8>> {
    let topics = [topic(TOPIC_STATE, level), topic(TOPIC_FORWARDED, level), legacy_topic(level)];
    let mut topics: Vec<_> =
        topics.iter().map(|topic| [&[first], &topic.as_ref().unwrap()[..]].concat()).collect();
    topics.sort();
    topics
}

#[test]
fn levels_match_exactly_for_native_frames_legacy_text_and_counts() {
    let context = Context::new();
    let broker = Broker::new(&context);
    let (subscription, receiver) =
        started(&context, &[&broker], &["info", " info", "last", "info", ""], NEVER);
    let mut expected = [topics(1, "info"), topics(1, "last")].concat();
    expected.sort();
    assert_eq!(broker.take(6), expected);
    let forwarded =
        |level| Forwarded { level, broker: PublisherId([1; 16]), messages: 3 }.encode().unwrap().to_vec();
    let wanted = [b"\x01info\0frame".to_vec(), b"info|Counter|n|1|1|s".to_vec(), forwarded("info")];
    for message in [
        b"\x01information\0x".to_vec(),
        b"information|Counter|n|1|1|s".to_vec(),
        forwarded("information"),
        b"\x01inf\0x".to_vec(),
    ] {
        broker.send(message);
    }
    wanted.iter().for_each(|message| broker.send(message));
    broker.send("last|");
    for message in &wanted {
        assert_eq!(published(&receiver), *message);
    }
    assert_eq!(published(&receiver), b"last|");
    assert_eq!(subscription.stop().messages, 5, "four messages and the news of the connection");
}

#[test]
fn every_subscription_is_sent_again_and_again_in_a_way_that_reaches_the_broker() {
    let context = Context::new();
    let broker = Broker::new(&context);
    let timing = Timing { resubscribe: Duration::from_millis(20), ..NEVER };
    let (_subscription, _receiver) = started(&context, &[&broker], &["info"], timing);
    for _ in 0..5 {
        assert_eq!(broker.take(3), topics(1, "info"));
    }
}

#[test]
fn subscriptions_sent_many_times_are_cancelled_by_the_stop() {
    let context = Context::new();
    let broker = Broker::new(&context);
    let mut link = Link::open(&context, &broker.endpoint, &["info"], NEVER).unwrap();
    assert_eq!(broker.take(3), topics(1, "info"));
    for _ in 0..3 {
        link.subscribe().unwrap();
        assert_eq!(broker.take(3), topics(1, "info"));
    }
    link.unsubscribe().unwrap();
    // The socket is open yet, so it is not its end that the broker sees.
    assert_eq!(broker.take(3), topics(0, "info"));
    drop(link);
}

#[test]
fn a_stop_unsubscribes_and_hands_on_what_is_there() {
    const MESSAGES: usize = 3_000;
    let context = Context::new();
    let broker = Broker::new(&context);
    let (sender, receiver) = sync_channel(1);
    let endpoints = [broker.endpoint.clone()];
    let subscription = Subscription::start_with(
        &context,
        &endpoints,
        &["info".to_owned()],
        vec![("a".to_owned(), sender)],
        NEVER,
    )
    .unwrap();
    broker.take(3);
    (0..MESSAGES).for_each(|n| broker.send(format!("info|{n}")));
    // The channel is full, so nearly all of them wait in the socket.
    until(|| (subscription.totals().full_waits > 0).then_some(()));
    let stopped = thread::spawn(move || subscription.stop());
    for n in 0..MESSAGES {
        if n == MESSAGES / 2 {
            assert_eq!(broker.take(3), topics(0, "info"), "before the rest is read");
        }
        assert_eq!(published(&receiver), format!("info|{n}").into_bytes());
    }
    let totals = stopped.join().unwrap();
    assert_eq!((totals.messages, totals.abandoned), (MESSAGES as u64 + 1, 0));
    assert!(receiver.recv().is_err(), "the thread has ended");
}

#[test]
fn a_stop_does_not_wait_for_a_receiver_that_takes_nothing() {
    let context = Context::new();
    let broker = Broker::new(&context);
    let (sender, receiver) = sync_channel(1);
    let endpoints = [broker.endpoint.clone()];
    let subscription = Subscription::start_with(
        &context,
        &endpoints,
        &["info".to_owned()],
        vec![("a".to_owned(), sender)],
        NEVER,
    )
    .unwrap();
    broker.take(3);
    (0..10).for_each(|n| broker.send(format!("info|{n}")));
    until(|| (subscription.totals().full_waits > 0).then_some(()));
    let begun = Instant::now();
    assert!(subscription.stop().abandoned > 0);
    assert!(begun.elapsed() < Duration::from_millis(STOP_MS_MAX) * 3);
    drop(receiver);
}

#[test]
fn a_replay_is_taken_page_by_page_and_each_page_is_unsubscribed() {
    let context = Context::new();
    let broker = Broker::new(&context);
    let (subscription, receiver) = started(&context, &[&broker], &["info"], NEVER);
    broker.take(3);
    subscription.request_replay("info");
    let mut from = 0;
    for next in [256, 512, 600] {
        let topic = broker.asked();
        let request = Replay::parse(&topic).unwrap();
        assert_eq!((request.level, request.from), ("info", from));
        // One more request while it is under way is not a second replay.
        subscription.request_replay("info");
        broker.answer(&topic, from..next, ReplayMessage::trailer(next - from, next, 600));
        assert_eq!(broker.next(), [&[0], &topic[..]].concat());
        from = next;
    }
    for frame in 0..600u32 {
        let message = Message::Replayed { level: "info".into(), untopiced: frame.to_le_bytes().to_vec() };
        assert_eq!(receive(&receiver), Incoming { endpoint: 0, message });
    }
    assert_eq!(receive(&receiver).message, Message::ReplayDone { level: "info".into(), complete: true });
    let totals = subscription.stop();
    assert_eq!((totals.replay_pages, totals.replay_pages_short, totals.replay_strays), (3, 0, 0));
}

#[test]
fn a_page_that_came_short_is_asked_for_again_under_another_name() {
    let context = Context::new();
    let broker = Broker::new(&context);
    let (subscription, receiver) = started(&context, &[&broker], &["info"], NEVER);
    subscription.request_replay("info");
    let first = broker.asked();
    broker.answer(&first, 0..2, ReplayMessage::trailer(3, 3, 3));
    let second = broker.asked();
    assert_ne!(first, second);
    // What comes late for the first is nobody's.
    broker.answer(&second, 0..3, ReplayMessage::trailer(3, 3, 3));
    for frame in [0u32, 1, 0, 1, 2] {
        let message = Message::Replayed { level: "info".into(), untopiced: frame.to_le_bytes().to_vec() };
        assert_eq!(receive(&receiver).message, message);
    }
    assert_eq!(receive(&receiver).message, Message::ReplayDone { level: "info".into(), complete: true });
    assert_eq!(subscription.stop().replay_pages_short, 1);
}

#[test]
fn a_replay_that_nobody_answers_is_given_up_as_incomplete() {
    let context = Context::new();
    let broker = Broker::new(&context);
    let timing = Timing { page_timeout: Duration::from_millis(30), ..NEVER };
    let (subscription, receiver) = started(&context, &[&broker], &["info"], timing);
    subscription.request_replay("info");
    let mut nonces: Vec<_> = (0..PAGE_TRIES_MAX).map(|_| broker.asked()).collect();
    nonces.sort();
    nonces.dedup();
    assert_eq!(nonces.len(), PAGE_TRIES_MAX as usize);
    assert_eq!(receive(&receiver).message, Message::ReplayDone { level: "info".into(), complete: false });
    // After that it may be asked for again.
    subscription.request_replay("info");
    broker.asked();
    assert_eq!(subscription.stop().replays_given_up, 1);
}

#[test]
fn an_empty_replay_and_one_that_does_not_advance_end() {
    let context = Context::new();
    let broker = Broker::new(&context);
    let (subscription, receiver) = started(&context, &[&broker], &["info"], NEVER);
    for (next, total) in [(0, 0), (0, 5)] {
        subscription.request_replay("info");
        let topic = broker.asked();
        broker.answer(&topic, 0..0, ReplayMessage::trailer(0, next, total));
        let done = receive(&receiver).message;
        assert_eq!(done, Message::ReplayDone { level: "info".into(), complete: next >= total });
    }
}

#[test]
fn after_a_broker_restart_the_subscriptions_and_an_open_replay_are_renewed() {
    let context = Context::new();
    let broker = Broker::new(&context);
    let (subscription, receiver) = started(&context, &[&broker], &["info"], NEVER);
    assert_eq!(receiver.recv_timeout(DEADLINE).unwrap().message, Message::Connected);
    assert_eq!(broker.take(3), topics(1, "info"));
    subscription.request_replay("info");
    let before = broker.asked();
    let endpoint = broker.endpoint.clone();
    let brokers = |is_up: bool| subscription.brokers().eq([(endpoint.as_str(), is_up)]);
    assert!(brokers(true));
    drop(broker);
    until(|| brokers(false).then_some(()));
    let broker = Broker::bind(&context, &endpoint);
    assert_eq!(receiver.recv_timeout(DEADLINE).unwrap().message, Message::Connected);
    assert!(brokers(true));
    let mut seen = Vec::new();
    let page = loop {
        let message = broker.next();
        match Replay::parse(&message[1..]) {
            Some(_) if message[1..] != before && message[0] == 1 => break message[1..].to_vec(),
            Some(_) => {}
            None => seen.push(message),
        }
    };
    seen.sort();
    assert_eq!(seen, topics(1, "info"));
    broker.answer(&page, 0..0, ReplayMessage::trailer(0, 0, 0));
    assert_eq!(receive(&receiver).message, Message::ReplayDone { level: "info".into(), complete: true });
    broker.send("info|after");
    assert_eq!(published(&receiver), b"info|after");
    assert_eq!(subscription.stop().connections, 2);
}

#[test]
fn messages_say_which_broker_they_came_from() {
    let context = Context::new();
    let brokers = [Broker::new(&context), Broker::new(&context)];
    let (subscription, receiver) =
        started(&context, &[&brokers[0], &brokers[1], &brokers[0]], &["info"], NEVER);
    for (endpoint, broker) in brokers.iter().enumerate() {
        assert_eq!(broker.take(3), topics(1, "info"));
        broker.send("info|x");
        assert_eq!(
            receive(&receiver),
            Incoming { endpoint, message: Message::Published(b"info|x".to_vec()) }
        );
    }
    // An endpoint given twice counts once.
    assert_eq!(subscription.totals().connections, 2);
}

#[test]
fn messages_of_several_parts_and_answers_nobody_asked_for_are_counted_and_dropped() {
    let context = Context::new();
    let broker = Broker::new(&context);
    let (subscription, receiver) = started(&context, &[&broker], &["info"], NEVER);
    subscription.request_replay("info");
    let topic = broker.asked();
    broker.socket.send_multipart([&b"info|a"[..], b"info|b", b"info|c"], 0).unwrap();
    broker.send([&topic[..], b"\x07"].concat());
    broker.send("info|good");
    assert_eq!(published(&receiver), b"info|good");
    let totals = subscription.totals();
    assert_eq!((totals.multipart, totals.replay_strays), (1, 1));
    drop(subscription);
}

#[test]
fn the_thread_ends_when_its_receiver_is_gone() {
    let context = Context::new();
    let broker = Broker::new(&context);
    let (subscription, receiver) = started(&context, &[&broker], &["info"], NEVER);
    broker.take(3);
    drop(receiver);
    broker.send("info|x");
    until(|| (!subscription.is_running()).then_some(()));
}

#[test]
fn what_cannot_be_started_says_why() {
    let context = Context::new();
    let start = |endpoint: &str, level: &str| {
        let (sender, _receiver) = sync_channel(1);
        Subscription::start(
            &context,
            &[endpoint.to_owned()],
            &[level.to_owned()],
            vec![("a".to_owned(), sender)],
        )
        .unwrap_err()
        .to_string()
    };
    let endpoint = "tcp://127.0.0.1:1";
    assert_eq!(start(endpoint, "  "), "no level given: at least one such as info is needed");
    assert!(start(endpoint, "a|b").starts_with("level \"a|b\" is not accepted"));
    assert!(start("", "info").starts_with("no broker endpoint given"));
    assert!(start("nonsense", "info").starts_with("cannot connect to broker endpoint \"nonsense\""));
}
