//! Paced HTTP/1.1 client: a fixed rate over keep-alive connections, latency without coordinated omission.
//!
//!     pace HOST:PORT REQUESTS_PER_SECOND SECONDS CONNECTIONS REQUEST_FILE
//!
//! Every connection has its own schedule, spread evenly. Latency counts from the moment a request is sent, but from the
//! moment it was due where the answer before it came too late: a stall is charged to every request that waited for it.
//! wrk has no rates, and h2load fires its connections in step every 10 ms; hence this. The first second is not counted.
//! Prints {"requests", "late", "errors", "p50_us", "p99_us", "max_us"}. Standard library only: `rustc -C opt-level=3 pace.rs`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const WARM_UP: Duration = Duration::from_secs(1);

struct Plan {
    address: String,
    request: Vec<u8>,
    interval: Duration,
    start: Instant,
    end: Instant,
}

#[derive(Default)]
struct Tally {
    nanoseconds: Vec<u64>,
    late: u64,
    errors: u64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, address, rate, seconds, connections, file] = arguments.as_slice() else {
        eprintln!("usage: pace HOST:PORT REQUESTS_PER_SECOND SECONDS CONNECTIONS REQUEST_FILE");
        std::process::exit(2);
    };
    let rate: f64 = rate.parse().expect("rate");
    let connections: u32 = connections.parse().expect("connections");
    let interval = Duration::from_secs_f64(f64::from(connections) / rate);
    let start = Instant::now() + Duration::from_millis(100);
    let end = start + WARM_UP + Duration::from_secs_f64(seconds.parse().expect("seconds"));
    let request = std::fs::read(file).expect("request file");
    let threads: Vec<_> = (0..connections)
        .map(|number| {
            let offset = interval.mul_f64(f64::from(number) / f64::from(connections));
            let plan = Plan { address: address.clone(), request: request.clone(), interval, start: start + offset, end };
            std::thread::Builder::new().stack_size(128 * 1024).spawn(move || run(&plan)).expect("thread")
        })
        .collect();
    report(threads.into_iter().map(|thread| thread.join().expect("thread")).collect());
}

fn run(plan: &Plan) -> Tally {
    let mut tally = Tally::default();
    let Ok(mut connection) = TcpStream::connect(&plan.address) else {
        tally.errors += 1;
        return tally;
    };
    connection.set_nodelay(true).expect("nodelay");
    connection.set_read_timeout(Some(Duration::from_secs(5))).expect("timeout");
    let counted_from = plan.start + WARM_UP;
    let mut due = plan.start;
    while due < plan.end {
        let now = Instant::now();
        let late = now > due;
        if !late {
            std::thread::sleep(due - now);
        }
        let from = if late { due } else { Instant::now() };
        if exchange(&mut connection, &plan.request).is_none() {
            tally.errors += 1;
            return tally;
        }
        if due >= counted_from {
            tally.nanoseconds.push(u64::try_from(from.elapsed().as_nanos()).unwrap_or(u64::MAX));
            tally.late += u64::from(late);
        }
        due += plan.interval;
    }
    tally
}

/// Send one request and read its whole answer, which must be a 200 with a Content-Length.
fn exchange(connection: &mut TcpStream, request: &[u8]) -> Option<()> {
    connection.write_all(request).ok()?;
    let mut buffer = [0_u8; 8192];
    let mut filled = 0;
    loop {
        let read = connection.read(buffer.get_mut(filled..)?).ok()?;
        if read == 0 {
            return None;
        }
        filled += read;
        let Some(end) = buffer[..filled].windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(&buffer[..end]).ok()?.to_ascii_lowercase();
        if !head.starts_with("http/1.1 200") {
            return None;
        }
        let length = head.split("content-length:").nth(1)?.split("\r\n").next()?.trim().parse::<usize>().ok()?;
        if filled >= end + 4 + length {
            return Some(());
        }
    }
}

fn report(tallies: Vec<Tally>) {
    let mut all: Vec<u64> = tallies.iter().flat_map(|tally| tally.nanoseconds.iter().copied()).collect();
    all.sort_unstable();
    let at = |share: f64| {
        let index = (all.len().saturating_sub(1) as f64 * share).round() as usize;
        all.get(index).map_or(0.0, |&nanoseconds| nanoseconds as f64 / 1000.0)
    };
    let late: u64 = tallies.iter().map(|tally| tally.late).sum();
    let errors: u64 = tallies.iter().map(|tally| tally.errors).sum();
    println!(
        "{{\"requests\": {}, \"late\": {late}, \"errors\": {errors}, \"p50_us\": {:.1}, \"p99_us\": {:.1}, \"max_us\": {:.1}}}",
        all.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
}
