//! Counters, gauges and histograms, and their OpenMetrics text (version 1.0.0).
//!
//! A recording is one or two relaxed atomic additions to a cell that the thread has nearly to itself; nothing is formatted and no label
//! is looked up until somebody scrapes. Label values come from the bundle and from closed enums, never from a request.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stockade_engine::{Layer, Reason};

use crate::events::Outcome;

/// The media type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Cells a counter is spread over; threads beyond share them.
const SHARDS: usize = 8;

static NEXT_SHARD: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static SHARD: usize = NEXT_SHARD.fetch_add(1, Relaxed) % SHARDS;
}

fn shard() -> usize {
    // A thread that is ending has lost its number; any cell will do.
    SHARD.try_with(|shard| *shard).unwrap_or(0)
}

/// A value on a cache line of its own.
#[derive(Default)]
#[repr(align(64))]
struct Padded<T>(T);

/// A number that only rises.
#[derive(Default)]
pub struct Counter([Padded<AtomicU64>; SHARDS]);

impl Counter {
    pub fn inc(&self) {
        self.add(1);
    }

    pub fn add(&self, n: u64) {
        self.0[shard()].0.fetch_add(n, Relaxed);
    }

    pub fn value(&self) -> u64 {
        self.0.iter().map(|cell| cell.0.load(Relaxed)).sum()
    }
}

/// A number that rises and falls.
#[derive(Default)]
pub struct Gauge([Padded<AtomicI64>; SHARDS]);

impl Gauge {
    pub fn inc(&self) {
        self.0[shard()].0.fetch_add(1, Relaxed);
    }

    pub fn dec(&self) {
        self.0[shard()].0.fetch_sub(1, Relaxed);
    }

    /// Overwrites the value. For gauges that one place keeps; not to be mixed with `inc` and `dec`.
    pub fn set(&self, value: i64) {
        self.0[0].0.store(value, Relaxed);
    }

    pub fn value(&self) -> i64 {
        self.0.iter().map(|cell| cell.0.load(Relaxed)).sum()
    }
}

/// Upper bounds of the histograms' buckets in nanoseconds, and how they are written in seconds.
const BUCKETS: [(u64, &str); 18] = [
    (25_000, "0.000025"),
    (50_000, "0.00005"),
    (100_000, "0.0001"),
    (250_000, "0.00025"),
    (500_000, "0.0005"),
    (1_000_000, "0.001"),
    (2_500_000, "0.0025"),
    (5_000_000, "0.005"),
    (10_000_000, "0.01"),
    (25_000_000, "0.025"),
    (50_000_000, "0.05"),
    (100_000_000, "0.1"),
    (250_000_000, "0.25"),
    (500_000_000, "0.5"),
    (1_000_000_000, "1.0"),
    (2_500_000_000, "2.5"),
    (5_000_000_000, "5.0"),
    (10_000_000_000, "10.0"),
];

#[derive(Default)]
struct HistogramCell {
    /// Not cumulative; the last counts what is over every bound.
    counts: [AtomicU64; BUCKETS.len() + 1],
    sum_nanos: AtomicU64,
}

/// Durations, from 25 µs to 10 s.
#[derive(Default)]
pub struct Histogram([Padded<HistogramCell>; SHARDS]);

impl Histogram {
    pub fn observe(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let cell = &self.0[shard()].0;
        cell.counts[BUCKETS.partition_point(|(bound, _)| *bound < nanos)].fetch_add(1, Relaxed);
        cell.sum_nanos.fetch_add(nanos, Relaxed);
    }

    /// How many durations were observed.
    pub fn count(&self) -> u64 {
        self.0.iter().flat_map(|cell| &cell.0.counts).map(|count| count.load(Relaxed)).sum()
    }

    fn encode(&self, out: &mut String, name: &str) {
        let mut total = 0;
        for index in 0..=BUCKETS.len() {
            total += self.0.iter().map(|cell| cell.0.counts[index].load(Relaxed)).sum::<u64>();
            let bound = BUCKETS.get(index).map_or("+Inf", |(_, text)| text);
            let _ = writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {total}");
        }
        let nanos: u64 = self.0.iter().map(|cell| cell.0.sum_nanos.load(Relaxed)).fold(0, u64::wrapping_add);
        let _ =
            writeln!(out, "{name}_sum {}.{:09}\n{name}_count {total}", nanos / 1_000_000_000, nanos % 1_000_000_000);
    }
}

/// A counter or gauge by its labels, the first field of a family carrying its help.
macro_rules! metrics {
    (
        counters { $($counter:ident: $counter_family:literal { $($counter_label:literal)? } $($counter_help:literal)?;)* }
        gauges { $($gauge:ident: $gauge_family:literal { $($gauge_label:literal)? } $($gauge_help:literal)?;)* }
        histograms { $($histogram:ident: $histogram_family:literal $histogram_help:literal;)* }
    ) => {
        /// Everything that is measured in the process.
        #[derive(Default)]
        pub struct Metrics {
            $(pub $counter: Counter,)*
            $(pub $gauge: Gauge,)*
            $(pub $histogram: Histogram,)*
            registry: Mutex<BTreeMap<String, Arc<OperationCounters>>>,
            /// Requests that no operation was found for.
            unrouted: OperationCounters,
            readings: Mutex<Vec<Reading>>,
        }

        impl Metrics {
            fn encode_fixed(&self, out: &mut String) {
                $(
                    $(header(out, $counter_family, "counter", $counter_help);)?
                    let labels = concat!($("{", $counter_label, "}")?);
                    let _ = writeln!(out, concat!($counter_family, "_total{} {}"), labels, self.$counter.value());
                )*
                $(
                    $(header(out, $gauge_family, "gauge", $gauge_help);)?
                    let labels = concat!($("{", $gauge_label, "}")?);
                    let _ = writeln!(out, concat!($gauge_family, "{} {}"), labels, self.$gauge.value());
                )*
                $(
                    header(out, $histogram_family, "histogram", $histogram_help);
                    self.$histogram.encode(out, $histogram_family);
                )*
            }
        }
    };
}

metrics! {
    counters {
        connections_accepted: "stockade_connections" {} "Client connections accepted.";
        accept_errors: "stockade_accept_errors" {} "Failed accepts, descriptors exhausted among them.";
        shed_connections: "stockade_shed" { r#"what="connection""# } "What overload turned away early.";
        shed_requests: "stockade_shed" { r#"what="request""# };
        handshakes_ok: "stockade_tls_handshakes" { r#"outcome="ok""# } "TLS handshakes with clients.";
        handshakes_failed: "stockade_tls_handshakes" { r#"outcome="failed""# };
        handshakes_timed_out: "stockade_tls_handshakes" { r#"outcome="timeout""# };
        protocol_errors: "stockade_protocol_errors" {} "Client connections cut for what they sent.";
        panics: "stockade_panics" {} "Panics caught; each cost one request or one connection.";
        certificates_ok: "stockade_certificate_reloads" { r#"outcome="ok""# } "Reloads of the certificates.";
        certificates_refused: "stockade_certificate_reloads" { r#"outcome="refused""# };
        bundle_swaps_ok: "stockade_bundle_swaps" { r#"outcome="ok""# } "Bundles offered while running.";
        bundle_swaps_refused: "stockade_bundle_swaps" { r#"outcome="refused""# };
        events_written: "stockade_events_written" {} "Events that reached the file.";
        events_dropped: "stockade_events_dropped" {} "Events dropped because the queue was full.";
        events_failed: "stockade_events_failed" {} "Events lost because the file could not be written.";
        credential_hits: "stockade_credential_cache_lookups" { r#"outcome="hit""# } "Look-ups of verified credentials.";
        credential_misses: "stockade_credential_cache_lookups" { r#"outcome="miss""# };
        credential_stale: "stockade_credential_cache_lookups" { r#"outcome="stale""# };
        credential_negative_hits: "stockade_credential_cache_lookups" { r#"outcome="known_invalid""# };
        introspections_active: "stockade_introspections" { r#"outcome="active""# } "Questions to the authorization server.";
        introspections_inactive: "stockade_introspections" { r#"outcome="inactive""# };
        introspections_failed: "stockade_introspections" { r#"outcome="failed""# };
        introspections_garbage: "stockade_introspections" { r#"outcome="garbage""# };
        introspections_shed: "stockade_introspections" { r#"outcome="shed""# };
        introspections_repeated: "stockade_introspections_repeated" {} "Answers thrown away because a revocation overtook them.";
        revocations_token: "stockade_revocations" { r#"kind="token""# } "Revocations received.";
        revocations_client: "stockade_revocations" { r#"kind="client""# };
        revocations_user: "stockade_revocations" { r#"kind="user""# };
        revocations_session: "stockade_revocations" { r#"kind="session""# };
        revocations_grant: "stockade_revocations" { r#"kind="grant""# };
        revocation_canary_failures: "stockade_revocation_canary_failures" {} "Canaries that could not be had, cached or revoked, or whose revocation took too long to arrive.";
        revocation_resets: "stockade_revocation_resets" {} "Times the cache was emptied because the feed had a gap or a new epoch.";
        revocation_feed_errors: "stockade_revocation_feed_errors" {} "Failed polls of the revocation feed.";
        upstream_connects_ok: "stockade_upstream_connects" { r#"outcome="ok""# } "Connections opened to upstreams.";
        upstream_connects_failed: "stockade_upstream_connects" { r#"outcome="failed""# };
        upstream_reused: "stockade_upstream_reused" {} "Requests sent on a connection from the pool.";
        upstream_retries: "stockade_upstream_retries" {} "Requests sent a second time because that was safe.";
        upstream_ejections: "stockade_upstream_ejections" {} "Endpoints taken out after failures in a row.";
        upstream_unreachable: "stockade_upstream_failures" { r#"reason="unreachable""# } "Requests without a usable answer.";
        upstream_timeouts: "stockade_upstream_failures" { r#"reason="upstream_timeout""# };
        upstream_nonsense: "stockade_upstream_failures" { r#"reason="protocol_error""# };
        upstream_overloaded: "stockade_upstream_failures" { r#"reason="overloaded""# };
        upstream_bodies_cut: "stockade_upstream_bodies_cut" {} "Answers whose body broke off, stalled or broke its framing.";
    }
    gauges {
        connections: "stockade_connections_open" {} "Client connections open now.";
        in_flight: "stockade_requests_in_flight" {} "Requests being served now.";
        upstream_connections: "stockade_upstream_connections_open" {} "Connections to upstreams open now.";
        upstream_waiting: "stockade_upstream_waiting" {} "Requests waiting for a connection now.";
        bundle_serial: "stockade_bundle_serial" {} "Serial of the bundle in force.";
    }
    histograms {
        gateway_seconds: "stockade_gateway_seconds" "Time a request spent in the gateway, without waiting for the upstream.";
        upstream_seconds: "stockade_upstream_seconds" "Time from sending a request to the head of the upstream's answer.";
        introspection_seconds: "stockade_introspection_seconds" "Time the authorization server took to answer.";
        revocation_lag_seconds: "stockade_revocation_lag_seconds" "Time from a revocation to its being in force here.";
        revocation_canary_seconds: "stockade_revocation_canary_seconds" "Time from revoking a canary to this gateway's having dropped it.";
        bundle_swap_seconds: "stockade_bundle_swap_seconds" "Time to verify, build and check a new bundle.";
    }
}

/// A gauge that is read when somebody scrapes.
struct Reading {
    name: &'static str,
    help: &'static str,
    read: Box<dyn Fn() -> f64 + Send + Sync>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Cause {
    outcome: Outcome,
    layer: &'static str,
    reason: &'static str,
    class: usize,
}

const CLASSES: [&str; 6] = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// One operation's requests. Allowed ones are counted without a lock; refusals are rarer and have many more labels.
#[derive(Default)]
struct OperationCounters {
    allowed: [Padded<[AtomicU64; CLASSES.len()]>; SHARDS],
    causes: Mutex<BTreeMap<Cause, u64>>,
}

/// The counters of a bundle's operations, in the bundle's order.
pub struct Operations(Box<[Arc<OperationCounters>]>);

impl Metrics {
    pub fn new() -> Metrics {
        Metrics::default()
    }

    /// Resolves the operation ids of a bundle at load, in the order of `Route::operation_index`. An id that was known before goes on
    /// with its counts; one that no bundle in use has any more is forgotten.
    pub fn operations<'a>(&self, ids: impl IntoIterator<Item = &'a str>) -> Operations {
        let mut registry = lock(&self.registry);
        let operations = ids.into_iter().map(|id| registry.entry(id.to_owned()).or_default().clone()).collect();
        registry.retain(|_, counters| Arc::strong_count(counters) > 1);
        Operations(operations)
    }

    /// Counts one decision. `operation` is `Route::operation_index`, `None` before routing; `cause` says why it is not an allowance.
    ///
    /// `Observe` counts a refusal that was not enforced; its request is counted again when it ends.
    pub fn decision(
        &self,
        operations: &Operations,
        operation: Option<usize>,
        outcome: Outcome,
        cause: Option<(Layer, Reason)>,
        status: u16,
    ) {
        let counters = operation.and_then(|index| operations.0.get(index)).map_or(&self.unrouted, |found| &**found);
        let class = usize::from(status / 100);
        let class = if class < CLASSES.len() { class } else { 0 };
        match cause {
            None if outcome == Outcome::Allow => {
                counters.allowed[shard()].0[class].fetch_add(1, Relaxed);
            }
            _ => {
                let (layer, reason) = cause.map_or(("", ""), |(layer, reason)| (layer.name(), reason.name()));
                *lock(&counters.causes).entry(Cause { outcome, layer, reason, class }).or_default() += 1;
            }
        }
    }

    /// Adds a gauge that is read at each scrape. `name` is an OpenMetrics name.
    pub fn read_at_scrape(
        &self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) {
        lock(&self.readings).push(Reading { name, help, read: Box::new(read) });
    }

    /// The whole exposition, `# EOF` included.
    pub fn encode(&self) -> String {
        let mut out = String::with_capacity(16 << 10);
        self.encode_fixed(&mut out);
        for reading in lock(&self.readings).iter() {
            header(&mut out, reading.name, "gauge", reading.help);
            let _ = writeln!(out, "{} {}", reading.name, (reading.read)());
        }
        self.encode_operations(&mut out);
        out.push_str("# EOF\n");
        out
    }

    fn encode_operations(&self, out: &mut String) {
        let registry = lock(&self.registry);
        let all = || {
            registry
                .iter()
                .map(|(id, counters)| (id.as_str(), &**counters))
                .chain(std::iter::once(("", &self.unrouted)))
        };
        header(out, "stockade_requests", "counter", "Requests answered, by operation; none before routing.");
        for (id, counters) in all() {
            encode_requests(out, &escape(id), counters);
        }
        header(out, "stockade_denials", "counter", "Refusals by layer and reason; `observe`: recorded, not enforced.");
        for (id, counters) in all() {
            let id = escape(id);
            for (cause, count) in lock(&counters.causes).iter().filter(|(cause, _)| !cause.layer.is_empty()) {
                let Cause { outcome, layer, reason, .. } = cause;
                let status = CLASSES[cause.class];
                let _ = writeln!(
                    out,
                    "stockade_denials_total{{operation=\"{id}\",outcome=\"{}\",layer=\"{layer}\",reason=\"{reason}\",status=\"{status}\"}} {count}",
                    outcome.name()
                );
            }
        }
    }
}

fn encode_requests(out: &mut String, id: &str, counters: &OperationCounters) {
    let mut totals: BTreeMap<(Outcome, usize), u64> = BTreeMap::new();
    for class in 0..CLASSES.len() {
        let allowed: u64 = counters.allowed.iter().map(|cell| cell.0[class].load(Relaxed)).sum();
        if allowed > 0 {
            totals.insert((Outcome::Allow, class), allowed);
        }
    }
    for (cause, count) in lock(&counters.causes).iter().filter(|(cause, _)| cause.outcome != Outcome::Observe) {
        *totals.entry((cause.outcome, cause.class)).or_default() += count;
    }
    for ((outcome, class), count) in totals {
        let (outcome, class) = (outcome.name(), CLASSES[class]);
        let _ = writeln!(
            out,
            "stockade_requests_total{{operation=\"{id}\",outcome=\"{outcome}\",status=\"{class}\"}} {count}"
        );
    }
}

fn header(out: &mut String, family: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# TYPE {family} {kind}\n# HELP {family} {help}");
}

/// A label value as OpenMetrics writes it.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// The guarded value; one thread's panic leaves counters as good as they were.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
