//! defmt's log over the second UART, for a board without a debug probe. With one, take `defmt-rtt` instead.
#![expect(unsafe_code, reason = "a defmt logger is an unsafe trait")]

use core::cell::RefCell;

use critical_section::{CriticalSection, Mutex, RestoreState};
use defmt::Encoder;

use crate::board::Uart;

/// The open frame: its encoder, its line, and what its critical section found.
struct State {
    encoder: Encoder,
    uart: Option<Uart>,
    restore: RestoreState,
}

static STATE: Mutex<RefCell<State>> =
    Mutex::new(RefCell::new(State { encoder: Encoder::new(), uart: None, restore: RestoreState::invalid() }));

/// Gives the log its line; what is logged before goes nowhere.
pub fn start(uart: Uart) {
    critical_section::with(|section| STATE.borrow_ref_mut(section).uart = Some(uart));
}

/// Passes an encoder and where its bytes go.
fn with(encode: impl FnOnce(&mut Encoder, &mut dyn FnMut(&[u8]))) {
    // SAFETY: only called between acquire and release, which are one critical section.
    let section = unsafe { CriticalSection::new() };
    let mut state = STATE.borrow_ref_mut(section);
    let State { encoder, uart, .. } = &mut *state;
    encode(encoder, &mut |bytes| {
        if let Some(uart) = uart {
            uart.send(bytes);
        }
    });
}

#[defmt::global_logger]
struct Logger;

// SAFETY: interrupts stay masked from acquire to release, so frames do not mix, and nothing in between
// logs; flush has nothing to do, since the bytes are out when write returns.
unsafe impl defmt::Logger for Logger {
    fn acquire() {
        // SAFETY: release ends it, in the reverse order.
        let restore = unsafe { critical_section::acquire() };
        // SAFETY: it just began.
        let section = unsafe { CriticalSection::new() };
        STATE.borrow_ref_mut(section).restore = restore;
        with(|encoder, write| encoder.start_frame(write));
    }

    unsafe fn flush() {}

    unsafe fn release() {
        with(|encoder, write| encoder.end_frame(write));
        // SAFETY: acquire began it.
        let section = unsafe { CriticalSection::new() };
        let restore = STATE.borrow_ref(section).restore;
        // SAFETY: with what acquire was given.
        unsafe { critical_section::release(restore) };
    }

    unsafe fn write(bytes: &[u8]) {
        with(|encoder, write| encoder.write(bytes, write));
    }
}
