use std::time::{Duration, Instant};

use super::*;

const DEADLINE: Duration = Duration::from_secs(10);

/// The plain SUB of the original's workers.
fn plain(context: &Context) -> Socket {
    context.socket(zmq::SUB).unwrap()
}

/// Polls `socket` until a message comes.
fn receive(socket: &Socket) -> Message {
    receive_beside(socket, None)
}

/// As [`receive`], and lets `other` attend to its connections meanwhile, which an idle socket does not.
fn receive_beside(socket: &Socket, other: Option<&Socket>) -> Message {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(message) = recv_now(socket).unwrap() {
            return message;
        }
        assert!(Instant::now() < end, "no message within {DEADLINE:?}");
        socket.poll(zmq::POLLIN, 10).unwrap();
        other.map(|other| other.get_events().unwrap());
    }
}

fn bound(socket: &Socket) -> String {
    socket.bind("tcp://127.0.0.1:0").unwrap();
    socket.get_last_endpoint().unwrap().unwrap()
}

#[test]
fn a_publisher_refuses_exactly_at_the_mark_and_loses_nothing_it_took() {
    let context = Context::new();
    let publisher = publisher(&context).unwrap();
    publisher.bind("inproc://mark").unwrap();
    let slow = context.socket(zmq::SUB).unwrap();
    // Inside one process the pipe's mark is the sum of both sides' marks.
    slow.set_rcvhwm(1).unwrap();
    slow.set_subscribe(b"").unwrap();
    slow.connect("inproc://mark").unwrap();
    assert_eq!(&receive(&publisher)[..], b"\x01");
    let mut accepted = 0_u32;
    while send_now(&publisher, &accepted.to_le_bytes()).unwrap() == Sent::Accepted {
        accepted += 1;
        assert!(accepted < 10_000, "no mark");
    }
    assert_eq!(accepted, HIGH_WATER_MARK_PUBLISHER as u32 + 1);
    for expected in 0..accepted {
        assert_eq!(receive(&slow)[..], expected.to_le_bytes());
    }
    assert!(recv_now(&slow).unwrap().is_none());
}

#[test]
fn a_publisher_sees_every_subscription_through_a_broker_and_its_frame_comes_back() {
    let context = Context::new();
    let (broker_in, broker_out) = (broker_in(&context).unwrap(), broker_out(&context).unwrap());
    let (endpoint_in, endpoint_out) = (bound(&broker_in), bound(&broker_out));
    let (publisher, subscriber) = (publisher(&context).unwrap(), plain(&context));
    publisher.connect(&endpoint_in).unwrap();
    subscriber.connect(&endpoint_out).unwrap();
    subscriber.set_subscribe(b"info|").unwrap();
    let subscription = receive(&broker_out);
    assert_eq!(&subscription[..], b"\x01info|");
    // Whether the connection is up yet or not: then the broker's socket tells what it holds.
    assert_eq!(send_now(&broker_in, &subscription).unwrap(), Sent::Accepted);
    assert_eq!(&receive_beside(&publisher, Some(&broker_in))[..], b"\x01info|");
    // Once more: it is not new, and is reported all the same.
    assert_eq!(send_now(&broker_in, &subscription).unwrap(), Sent::Accepted);
    assert_eq!(&receive(&publisher)[..], b"\x01info|");
    assert_eq!(send_now(&publisher, b"info|one").unwrap(), Sent::Accepted);
    let message = receive(&broker_in);
    assert_eq!(send_now(&broker_out, &message).unwrap(), Sent::Accepted);
    assert_eq!(&receive(&subscriber)[..], b"info|one");
}

#[test]
fn a_broker_reports_every_subscription_and_only_the_last_unsubscription() {
    let context = Context::new();
    let broker_out = broker_out(&context).unwrap();
    let endpoint = bound(&broker_out);
    let workers = [(); 2].map(|()| {
        let worker = plain(&context);
        worker.connect(&endpoint).unwrap();
        worker.set_subscribe(b"a").unwrap();
        assert_eq!(&receive(&broker_out)[..], b"\x01a");
        worker
    });
    workers[0].set_unsubscribe(b"a").unwrap();
    workers[0].set_subscribe(b"behind").unwrap();
    assert_eq!(&receive(&broker_out)[..], b"\x01behind");
    workers[1].set_unsubscribe(b"a").unwrap();
    assert_eq!(&receive(&broker_out)[..], b"\0a");
}

#[test]
fn an_oversize_message_is_refused_and_other_peers_are_unaffected() {
    let context = Context::new();
    let broker_in = broker_in(&context).unwrap();
    let endpoint = bound(&broker_in);
    assert_eq!(send_now(&broker_in, b"\x01").unwrap(), Sent::Accepted);
    let connected = |first: &[u8]| {
        let peer = publisher(&context).unwrap();
        peer.connect(&endpoint).unwrap();
        assert_eq!(&receive_beside(&peer, Some(&broker_in))[..], b"\x01");
        peer.send(first, 0).unwrap();
        assert_eq!(receive(&broker_in)[..], *first);
        peer
    };
    let (good, bad) = (connected(b"good"), connected(b"bad"));
    let largest = vec![b'x'; MESSAGE_BYTES_MAX as usize];
    bad.send(&largest, 0).unwrap();
    assert_eq!(receive(&broker_in).len(), largest.len());
    bad.send(vec![b'x'; largest.len() + 1], 0).unwrap();
    // The broker hangs up: the publisher sees its subscriber leave, then come back.
    assert_eq!(&receive_beside(&bad, Some(&broker_in))[..], b"\0");
    assert_eq!(&receive_beside(&bad, Some(&broker_in))[..], b"\x01");
    bad.send("again", 0).unwrap();
    assert_eq!(&receive(&broker_in)[..], b"again");
    good.send("still here", 0).unwrap();
    assert_eq!(&receive(&broker_in)[..], b"still here");
    assert!(recv_now(&good).unwrap().is_none(), "the good peer never lost its subscriber");
}

#[test]
fn no_option_is_left_at_its_default() {
    let context = Context::new();
    let service = HIGH_WATER_MARK_SERVICE;
    for (socket, mark) in [
        (publisher(&context).unwrap(), HIGH_WATER_MARK_PUBLISHER),
        (broker_in(&context).unwrap(), service),
        (broker_out(&context).unwrap(), service),
        (subscriber(&context).unwrap(), service),
    ] {
        assert_eq!((socket.get_sndhwm(), socket.get_rcvhwm()), (Ok(mark), Ok(mark)));
        assert_eq!(socket.get_maxmsgsize(), Ok(MESSAGE_BYTES_MAX));
        assert_eq!(socket.get_linger(), Ok(LINGER_MS));
        assert_eq!(socket.get_heartbeat_ivl(), Ok(HEARTBEAT_INTERVAL_MS));
        assert_eq!(socket.get_heartbeat_timeout(), Ok(HEARTBEAT_TIMEOUT_MS));
        assert_eq!(socket.get_heartbeat_ttl(), Ok(HEARTBEAT_TIMEOUT_MS));
        assert_eq!(socket.get_reconnect_ivl(), Ok(RECONNECT_MIN_MS));
        assert_eq!(socket.get_reconnect_ivl_max(), Ok(RECONNECT_MAX_MS));
        assert_eq!(socket.get_connect_timeout(), Ok(CONNECT_TIMEOUT_MS));
        assert_eq!(socket.get_handshake_ivl(), Ok(HANDSHAKE_TIMEOUT_MS));
    }
}

#[test]
fn an_address_of_either_protocol_is_connected_to() {
    let context = Context::new();
    for host in ["127.0.0.1", "[::1]"] {
        let listening = broker_in(&context).unwrap();
        listening.set_ipv6(host.starts_with('[')).unwrap();
        listening.bind(&format!("tcp://{host}:0")).unwrap();
        let endpoint = listening.get_last_endpoint().unwrap().unwrap();
        let publisher = publisher(&context).unwrap();
        connect(&publisher, &endpoint).unwrap();
        listening.send(&b"\x01info|"[..], 0).unwrap();
        assert_eq!(&receive_beside(&publisher, Some(&listening))[..], b"\x01info|", "{host}");
    }
    assert_eq!(connect(&publisher(&context).unwrap(), "nowhere"), Err(Error::EINVAL));
}
