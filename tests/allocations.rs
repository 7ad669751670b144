//! Nothing is allocated per message once a relay is warm: the thread it runs in is watched by the allocator.
#![allow(missing_docs, clippy::unwrap_used)]
#![expect(unsafe_code, reason = "an allocator can be replaced in no other way; it only counts and passes on")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};

use tproxy::{Config, Relay};

thread_local! {
    static WATCHED: Cell<bool> = const { Cell::new(false) };
}

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

struct Counting;

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if WATCHED.get() {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: as promised by our caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as promised by our caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn nothing_is_allocated_per_message_after_warm_up() {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = Config::new("127.0.0.1:0".parse().unwrap(), [upstream.local_addr().unwrap()]);
    let relay = Relay::bind(config).unwrap();
    let (front, stopper) = (relay.local_addr(), relay.stopper());
    let running = std::thread::spawn(move || {
        WATCHED.set(true);
        relay.run().unwrap()
    });

    let mut sessions: Vec<_> = (0..8)
        .map(|_| {
            let client = TcpStream::connect(front).unwrap();
            (client, upstream.accept().unwrap().0)
        })
        .collect();
    let mut round = |size: usize| {
        let (message, mut echo) = (vec![7; size], vec![0; size]);
        for (client, upstream) in &mut sessions {
            client.write_all(&message).unwrap();
            upstream.read_exact(&mut echo).unwrap();
            upstream.write_all(&message).unwrap();
            client.read_exact(&mut echo).unwrap();
        }
    };
    for size in [64, 16 << 10, 100 << 10] {
        round(size);
    }
    let warm = ALLOCATIONS.load(Ordering::Relaxed);
    assert!(warm > 0, "the watch works");
    for size in [64, 16 << 10, 100 << 10] {
        (0..100).for_each(|_| round(size));
    }
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - warm, 0);

    stopper.stop();
    drop(sessions);
    assert_eq!(running.join().unwrap().sessions, 8);
}
