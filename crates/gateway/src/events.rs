//! Events: one JSON object a line (`docs/contracts.md` §6), written by a thread of its own.
//!
//! [`Events::emit`] never waits: a full queue drops the event and counts it. The writer survives a full disk, a missing folder and a
//! file moved away: it counts what it loses, tries again each second and says so on standard error at most once a minute.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::fs::{self, File, OpenOptions, Permissions};
use std::hash::BuildHasher;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};
use stockade_engine::{Layer, Reason};
use uuid::Uuid;

use crate::config;
use crate::metrics::Metrics;

/// Longest text of one member; what is longer is cut, so that a line stays small.
const MAX_TEXT_BYTES: usize = 1024;
/// Lines are collected up to this size before they are written.
const BATCH_BYTES: usize = 64 << 10;
const RETRY: Duration = Duration::from_secs(1);
const COMPLAIN: Duration = Duration::from_secs(60);

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Decision,
    Connection,
    Bundle,
    Upstream,
    AuthorizationServer,
    Process,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Deny,
    /// Would have been denied, but the layer only observes.
    Observe,
    Allow,
    Error,
}

impl Outcome {
    /// The stable wire name.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Deny => "deny",
            Outcome::Observe => "observe",
            Outcome::Allow => "allow",
            Outcome::Error => "error",
        }
    }
}

/// A UUID of version 7 (RFC 9562 §5.7); `instance` of a problem document is `urn:uuid:` and this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EventId(Uuid);

impl EventId {
    /// Unique, not secret: the random bits come from a hash with random keys, without a system call.
    #[expect(clippy::new_without_default, reason = "each call gives another id")]
    pub fn new() -> EventId {
        EventId::at(SystemTime::now())
    }

    fn at(time: SystemTime) -> EventId {
        thread_local! {
            static RANDOM: (RandomState, Cell<u64>) = (RandomState::new(), const { Cell::new(0) });
        }
        let random = RANDOM.with(|(state, count)| {
            let n = count.get();
            count.set(n.wrapping_add(2));
            (u128::from(state.hash_one(n)) << 64 | u128::from(state.hash_one(n.wrapping_add(1)))).to_be_bytes()
        });
        let mut bits = [0; 10];
        bits.copy_from_slice(&random[..10]);
        EventId(uuid::Builder::from_unix_timestamp_millis(unix_millis(time), &bits).into_uuid())
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// Who asked, as far as it is known.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Client {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text")]
    pub client_id: Option<Cow<'static, str>>,
}

/// One event. What is absent is left out of the line. No member ever carries a value, token or key.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    #[serde(serialize_with = "rfc3339")]
    pub time: SystemTime,
    #[serde(serialize_with = "display")]
    pub id: EventId,
    pub kind: Kind,
    pub outcome: Outcome,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "layer")]
    pub layer: Option<Layer>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "reason")]
    pub reason: Option<Reason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text")]
    pub operation: Option<Cow<'static, str>>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text")]
    pub method: Option<Cow<'static, str>>,
    /// The path template, or the masked path where no operation is known.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text")]
    pub path: Option<Cow<'static, str>>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text")]
    pub pointer: Option<Cow<'static, str>>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text")]
    pub evidence: Option<Cow<'static, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<Client>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text")]
    pub trace_id: Option<Cow<'static, str>>,
    /// First 16 hex digits of the bundle's digest.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text")]
    pub bundle: Option<Cow<'static, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text")]
    pub detail: Option<Cow<'static, str>>,
}

impl Event {
    /// An event of now, with a new id and nothing else known.
    pub fn new(kind: Kind, outcome: Outcome) -> Event {
        let time = SystemTime::now();
        Event {
            time,
            id: EventId::at(time),
            kind,
            outcome,
            layer: None,
            reason: None,
            status: None,
            operation: None,
            method: None,
            path: None,
            pointer: None,
            evidence: None,
            client: None,
            trace_id: None,
            bundle: None,
            serial: None,
            duration_us: None,
            detail: None,
        }
    }
}

enum Message {
    Event(Box<Event>),
    /// Answer once everything before it has been written or counted as lost.
    Flush(SyncSender<()>),
    Stop,
}

/// The way to the writer. Share it by `Arc`; dropping the last one writes what is queued.
pub struct Events {
    queue: Option<SyncSender<Message>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    metrics: Arc<Metrics>,
}

impl Events {
    /// Starts the writer. Without a path events are counted as dropped. Fails only if no thread can be started.
    pub fn start(config: &config::Events, metrics: Arc<Metrics>) -> io::Result<Events> {
        let Some(path) = config.path.clone() else {
            return Ok(Events { queue: None, writer: Mutex::new(None), metrics });
        };
        let (queue, messages) = sync_channel(config.queue.max(1));
        let sink = Sink::new(path, config.max_bytes, config.files, metrics.clone());
        let writer = std::thread::Builder::new().name("events".to_owned()).spawn(move || write_all(sink, &messages))?;
        Ok(Events { queue: Some(queue), writer: Mutex::new(Some(writer)), metrics })
    }

    /// Hands an event to the writer, or drops it and counts that. Never waits.
    pub fn emit(&self, event: Event) {
        let sent = self.queue.as_ref().map(|queue| queue.try_send(Message::Event(Box::new(event))));
        if !matches!(sent, Some(Ok(()))) {
            self.metrics.events_dropped.inc();
        }
    }

    /// Waits until what was emitted before is written, at most `patience`. Answers whether it was.
    pub fn flush(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let (done, wait) = sync_channel(1);
        let Some(queue) = &self.queue else { return true };
        let mut message = Message::Flush(done);
        loop {
            match queue.try_send(message) {
                Ok(()) => return wait.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok(),
                Err(std::sync::mpsc::TrySendError::Full(back)) if Instant::now() < deadline => {
                    message = back;
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(_) => return false,
            }
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        if self.flush(Duration::from_secs(2))
            && let Some(queue) = &self.queue
            && queue.try_send(Message::Stop).is_ok()
            && let Some(writer) = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            // A writer that hangs in the file system after the flush is left behind with the process.
            let _ = writer.join();
        }
    }
}

fn write_all(mut sink: Sink, messages: &Receiver<Message>) {
    let mut batch = Vec::with_capacity(BATCH_BYTES + 4096);
    let limit = BATCH_BYTES.min(usize::try_from(sink.max_bytes).unwrap_or(BATCH_BYTES));
    while let Ok(first) = messages.recv() {
        let mut next = Some(first);
        let mut lines = 0;
        let mut after = None;
        while let Some(message) = next.take() {
            match message {
                Message::Event(event) => {
                    if serde_json::to_writer(&mut batch, &event).is_ok() {
                        batch.push(b'\n');
                        lines += 1;
                    }
                }
                other => {
                    after = Some(other);
                    break;
                }
            }
            if batch.len() < limit {
                next = messages.try_recv().ok();
            }
        }
        sink.write(&batch, lines);
        batch.clear();
        match after {
            Some(Message::Flush(done)) => {
                let _ = done.try_send(());
            }
            Some(Message::Stop) => return,
            _ => {}
        }
    }
}

/// The file, its rotation and its mishaps.
struct Sink {
    path: PathBuf,
    max_bytes: u64,
    files: usize,
    metrics: Arc<Metrics>,
    open: Option<Open>,
    retry_at: Option<Instant>,
    complain_at: Option<Instant>,
}

struct Open {
    file: File,
    length: u64,
    checked_at: Instant,
}

impl Sink {
    fn new(path: PathBuf, max_bytes: u64, files: usize, metrics: Arc<Metrics>) -> Sink {
        Sink { path, max_bytes: max_bytes.max(1), files, metrics, open: None, retry_at: None, complain_at: None }
    }

    /// Writes whole lines, or counts them as lost.
    fn write(&mut self, batch: &[u8], lines: u64) {
        if lines == 0 {
            return;
        }
        if self.retry_at.is_some_and(|at| Instant::now() < at) {
            self.metrics.events_failed.add(lines);
            return;
        }
        match self.try_write(batch) {
            Ok(()) => {
                self.retry_at = None;
                self.metrics.events_written.add(lines);
            }
            Err(error) => {
                self.open = None;
                self.retry_at = Some(Instant::now() + RETRY);
                self.metrics.events_failed.add(lines);
                self.complain(&error);
            }
        }
    }

    fn try_write(&mut self, batch: &[u8]) -> io::Result<()> {
        let mut open = match self.open.take() {
            Some(open) => self.still_there(open)?,
            None => self.open_file()?,
        };
        if open.length > 0 && open.length + batch.len() as u64 > self.max_bytes {
            drop(open);
            self.rotate()?;
            open = self.open_file()?;
        }
        append(&mut open, batch)?;
        self.open = Some(open);
        Ok(())
    }

    /// Another process may have rotated the file, or somebody taken it away: looked at once a second.
    fn still_there(&self, mut open: Open) -> io::Result<Open> {
        if open.checked_at.elapsed() < RETRY {
            return Ok(open);
        }
        let ours = open.file.metadata()?;
        if !fs::metadata(&self.path).is_ok_and(|found| found.ino() == ours.ino() && found.dev() == ours.dev()) {
            return self.open_file();
        }
        open.length = ours.len();
        open.checked_at = Instant::now();
        Ok(open)
    }

    fn open_file(&self) -> io::Result<Open> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&self.path)?;
        let found = file.metadata()?;
        let length = found.len();
        if found.is_file() {
            if found.mode() & 0o077 != 0 {
                file.set_permissions(Permissions::from_mode(0o600))?;
            }
            if length > 0 && !ends_in_line_feed(&mut file)? {
                // A line that a crash or a full disk cut must not swallow the next one.
                file.write_all(b"\n")?;
            }
        }
        Ok(Open { file, length, checked_at: Instant::now() })
    }

    /// `events.jsonl` → `.1` → … → `.N`; the oldest goes.
    fn rotate(&self) -> io::Result<()> {
        if fs::metadata(&self.path).is_ok_and(|found| found.len() < self.max_bytes / 2) {
            // Another process has just done it.
            return Ok(());
        }
        if self.files == 0 {
            return fs::remove_file(&self.path);
        }
        for number in (1..self.files).rev() {
            match fs::rename(numbered(&self.path, number), numbered(&self.path, number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.path, numbered(&self.path, 1))
    }

    fn complain(&mut self, error: &io::Error) {
        let now = Instant::now();
        if self.complain_at.is_none_or(|at| at <= now) {
            self.complain_at = Some(now + COMPLAIN);
            eprintln!("stockade-gateway: warning: cannot write events to `{}`: {error}", self.path.display());
        }
    }
}

/// Appends all of `batch`, or takes back the piece of it that was written.
fn append(open: &mut Open, batch: &[u8]) -> io::Result<()> {
    let mut written = 0;
    let result = loop {
        match open.file.write(&batch[written..]) {
            Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => written += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Err(error),
        }
        if written == batch.len() {
            break Ok(());
        }
    };
    match result {
        Ok(()) => open.length += written as u64,
        // Only if nobody else has written meanwhile.
        Err(_) if written > 0 && open.file.metadata().is_ok_and(|m| m.len() == open.length + written as u64) => {
            let _ = open.file.set_len(open.length);
        }
        Err(_) => {}
    }
    result
}

fn ends_in_line_feed(file: &mut File) -> io::Result<bool> {
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

fn numbered(path: &Path, number: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

fn unix_millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// RFC 3339 in UTC with milliseconds.
fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let millis = unix_millis(*time);
    let (year, month, day) = civil(millis / 86_400_000);
    let (hour, minute) = (millis / 3_600_000 % 24, millis / 60_000 % 60);
    let (second, milli) = (millis / 1000 % 60, millis % 1000);
    serializer.collect_str(&format_args!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z"))
}

/// Year, month and day of a count of days since 1970-01-01, in the proleptic Gregorian calendar.
///
/// Years are reckoned from March, so that the leap day is the last of its year; 719,468 days lie between 0000-03-01 and 1970-01-01.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_IN_400_YEARS: u64 = 146_097;
    let days = days + 719_468;
    let day_of_era = days % DAYS_IN_400_YEARS;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = days / DAYS_IN_400_YEARS * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

fn display<S: Serializer>(value: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn layer<S: Serializer>(value: &Option<Layer>, serializer: S) -> Result<S::Ok, S::Error> {
    value.map(Layer::name).serialize(serializer)
}

fn reason<S: Serializer>(value: &Option<Reason>, serializer: S) -> Result<S::Ok, S::Error> {
    value.map(Reason::name).serialize(serializer)
}

fn text<S: Serializer>(value: &Option<Cow<'static, str>>, serializer: S) -> Result<S::Ok, S::Error> {
    let value = value.as_deref().unwrap_or_default();
    let mut end = value.len().min(MAX_TEXT_BYTES);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    value[..end].serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_the_dates_of_the_calendar() {
        for (days, date) in [
            (0, (1970, 1, 1)),
            (58, (1970, 2, 28)),
            (59, (1970, 3, 1)),
            (789, (1972, 2, 29)),
            (10_956, (1999, 12, 31)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (20_781, (2026, 11, 24)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(civil(days), date, "{days}");
        }
    }

    #[test]
    fn ids_are_version_7_unique_and_in_the_order_of_time() {
        let early = EventId::at(UNIX_EPOCH + Duration::from_millis(1_764_000_000_000));
        let late = EventId::at(UNIX_EPOCH + Duration::from_millis(1_764_000_000_001));
        assert!(early.to_string() < late.to_string());
        assert_eq!(early.0.get_version_num(), 7);
        assert_eq!(early.0.get_variant(), uuid::Variant::RFC4122);
        let many: std::collections::HashSet<String> = (0..10_000).map(|_| EventId::new().to_string()).collect();
        assert_eq!(many.len(), 10_000);
    }
}
