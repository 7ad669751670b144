//! The relay that tproxy is measured against: the same command line, on tokio.
//!
//! ```console
//! $ cargo bench --bench tokio_version -- -f 127.0.0.1:6101 -t 127.0.0.1:8888            # as in a tutorial
//! $ cargo bench --bench tokio_version -- -f 127.0.0.1:6101 -t 127.0.0.1:8888 --tuned    # as fast as one page gets
//! ```
//! `cargo bench --bench versus` builds and runs both. Neither passes on how a stream ended: an error becomes a FIN. That
//! is one reason why they are short.
#![allow(clippy::print_stdout, reason = "it has no log")]

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

use tokio::io::{AsyncWriteExt, copy, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream};

const USAGE: &str = "usage: tokio_version -f ADDR -t ADDR [--tuned]";

/// The buffers of the tuned version: as large as tproxy's.
const BUFFER: usize = 64 << 10;

fn main() -> ExitCode {
    let Some((from, to, is_tuned)) = arguments() else {
        // Not a failure: a plain `cargo bench` runs every bench.
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    };
    let ended = if is_tuned { tuned(from, to) } else { naive(from, to) };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Option<(SocketAddr, SocketAddr, bool)> {
    let (mut from, mut to, mut is_tuned) = (None, None, false);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "-f" | "--from" => from = words.next()?.parse().ok(),
            "-t" | "--to" => to = words.next()?.parse().ok(),
            "--tuned" => is_tuned = true,
            // cargo passes this to every bench.
            "--bench" => {}
            _ => return None,
        }
    }
    Some((from?, to?, is_tuned))
}

/// The first version one writes, with all defaults. It connects before it accepts the next client, so a silent upstream
/// delays every client.
#[tokio::main]
async fn naive(from: SocketAddr, to: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(from).await?;
    loop {
        let (client, _) = listener.accept().await?;
        let Ok(upstream) = TcpStream::connect(to).await else { continue };
        tokio::spawn(relay(client, upstream));
    }
}

async fn relay(client: TcpStream, upstream: TcpStream) -> io::Result<()> {
    let (mut client_read, mut client_write) = client.into_split();
    let (mut upstream_read, mut upstream_write) = upstream.into_split();
    let up = async {
        copy(&mut client_read, &mut upstream_write).await?;
        upstream_write.shutdown().await
    };
    let down = async {
        copy(&mut upstream_read, &mut client_write).await?;
        client_write.shutdown().await
    };
    tokio::try_join!(up, down)?;
    Ok(())
}

/// The version one has after a week of measuring: one thread, no Nagle, larger buffers, and a task that connects for each
/// client.
#[tokio::main(flavor = "current_thread")]
async fn tuned(from: SocketAddr, to: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(from).await?;
    loop {
        let Ok((mut client, _)) = listener.accept().await else { continue };
        tokio::spawn(async move {
            client.set_nodelay(true)?;
            let mut upstream = TcpStream::connect(to).await?;
            upstream.set_nodelay(true)?;
            copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER, BUFFER).await
        });
    }
}
