//! Bare rings: what a library on one of them would pay for a push of 16 bytes. Each is emptied by the
//! thread that fills it, which favours them: ours are drained by another.

use super::{CALLS, Operation, Work, operation, own};

type Record = (u64, u64);
const RECORDS: usize = 4_096;
const RECORD_BYTES: usize = size_of::<Record>();

pub fn all() -> Vec<Operation> {
    let (mut producer, mut consumer) = rtrb::RingBuffer::<Record>::new(RECORDS);
    let array = crossbeam_queue::ArrayQueue::<Record>::new(RECORDS);
    let queue: &'static mut heapless::spsc::Queue<Record, RECORDS> = Box::leak(Box::default());
    let (mut enqueue, mut dequeue) = queue.split();
    let thing = thingbuf::ThingBuf::<Record>::new(RECORDS);
    let name = "push and pop";
    let half = CALLS / 2;
    vec![
        own!("rtrb", name, half, |i| (producer.push((i, i)).is_ok(), consumer.pop().is_ok())),
        own!("crossbeam ArrayQueue", name, half, |i| (array.push((i, i)).is_ok(), array.pop())),
        own!("heapless spsc", name, half, |i| (enqueue.enqueue((i, i)).is_ok(), dequeue.dequeue())),
        own!("thingbuf", name, half, |i| (thing.push((i, i)).is_ok(), thing.pop())),
        ringbuf(name, half),
        bbqueue(name, half),
    ]
}

fn ringbuf(name: &'static str, calls: u64) -> Operation {
    use ringbuf::traits::{Consumer as _, Producer as _, Split as _};
    let (mut producer, mut consumer) = ringbuf::HeapRb::<Record>::new(RECORDS).split();
    own!("ringbuf", name, calls, |i| (producer.try_push((i, i)).is_ok(), consumer.try_pop()))
}

/// Bytes instead of records.
fn bbqueue(name: &'static str, calls: u64) -> Operation {
    let queue: &'static bbqueue::nicknames::Churrasco<{ RECORDS * RECORD_BYTES }> =
        Box::leak(Box::new(bbqueue::nicknames::Churrasco::new()));
    let (producer, consumer) = (queue.stream_producer(), queue.stream_consumer());
    own!("bbqueue", name, calls, |i| {
        if let Ok(mut grant) = producer.grant_exact(RECORD_BYTES) {
            grant[..8].copy_from_slice(&i.to_ne_bytes());
            grant[8..].copy_from_slice(&i.to_ne_bytes());
            grant.commit(RECORD_BYTES);
        }
        if let Ok(grant) = consumer.read() {
            grant.release(RECORD_BYTES);
        }
    })
}
