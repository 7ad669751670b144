//! Nothing is allocated once a relay is warm, neither for messages nor for bulk: the thread it runs in is watched by
//! the allocator.
#![allow(missing_docs, clippy::unwrap_used)]
#![expect(unsafe_code, reason = "an allocator can be replaced in no other way; it only counts and passes on")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tproxy::{Config, Control, Relay, Totals};

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

/// There is one count, so there is one relay at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A relay in a thread that is watched.
struct Watched {
    front: SocketAddr,
    upstream: TcpListener,
    control: Control,
    running: JoinHandle<Totals>,
    _alone: MutexGuard<'static, ()>,
}

impl Watched {
    fn start() -> Self {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
        let config = Config::new("127.0.0.1:0".parse().unwrap(), [upstream.local_addr().unwrap()]);
        let relay = Relay::bind(config).unwrap();
        let (front, control) = (relay.local_addr(), relay.control());
        let running = std::thread::spawn(move || {
            WATCHED.set(true);
            relay.run().unwrap()
        });
        Self { front, upstream, control, running, _alone: alone }
    }

    /// Both ends of a session: the client's, the upstream's.
    fn session(&self) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(self.front).unwrap();
        let (upstream, _) = self.upstream.accept().unwrap();
        for end in [&client, &upstream] {
            end.set_read_timeout(Some(PATIENCE)).unwrap();
            end.set_write_timeout(Some(PATIENCE)).unwrap();
        }
        (client, upstream)
    }

    /// Ends with its sessions, which the caller has dropped.
    fn stop(self) -> Totals {
        self.control.stop();
        self.running.join().unwrap()
    }
}

/// How long one read or write may take.
const PATIENCE: Duration = Duration::from_secs(30);

fn allocations() -> u64 {
    ALLOCATIONS.load(Ordering::Relaxed)
}

#[test]
fn nothing_is_allocated_per_message_after_warm_up() {
    let relay = Watched::start();
    let before = allocations();
    let mut sessions: Vec<_> = (0..8).map(|_| relay.session()).collect();
    let mut round = |size: usize| {
        let (message, mut echo) = (vec![7; size], vec![0; size]);
        for (client, upstream) in &mut sessions {
            client.write_all(&message).unwrap();
            upstream.read_exact(&mut echo).unwrap();
            upstream.write_all(&message).unwrap();
            client.read_exact(&mut echo).unwrap();
        }
    };
    for size in [64, 16 << 10, 60 << 10] {
        round(size);
    }
    let warm = allocations();
    assert!(warm > before, "the watch works");
    for size in [64, 16 << 10, 60 << 10] {
        (0..100).for_each(|_| round(size));
    }
    assert_eq!(allocations() - warm, 0);

    drop(sessions);
    assert_eq!(relay.stop().sessions, 8);
}

/// Bulk goes through a pipe, and the first that is wanted is allocated: warm is who has it. One direction at a time, so
/// a second one is never wanted.
#[test]
fn nothing_is_allocated_for_bulk_after_warm_up() {
    let relay = Watched::start();
    let (client, upstream) = relay.session();
    let (bulk, mut got) = (vec![7; 8 << 20], vec![0; 8 << 20]);
    let mut round = || {
        for (mut from, mut to) in [(&client, &upstream), (&upstream, &client)] {
            std::thread::scope(|scope| {
                scope.spawn(|| from.write_all(&bulk).unwrap());
                to.read_exact(&mut got).unwrap();
            });
        }
    };
    let before = pipes();
    round();
    let mut rounds = 1;
    // How soon two reads in a row fill their buffers is the kernel's to say.
    while cfg!(target_os = "linux") && pipes() == before {
        assert!(rounds < 100, "800 MiB each way, and no pipe");
        round();
        rounds += 1;
    }
    let warm = allocations();
    (0..8).for_each(|_| round());
    assert_eq!(allocations() - warm, 0);

    drop((client, upstream));
    let totals = relay.stop();
    let said = (rounds + 8) * bulk.len();
    assert_eq!((totals.sessions, totals.up, totals.down), (1, said as u64, said as u64));
}

/// Descriptors of this process that are pipes.
fn pipes() -> usize {
    let open = std::fs::read_dir("/proc/self/fd").into_iter().flatten();
    let targets = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("pipe:")).count()
}
