//! Fuzz targets: one function for every parser of untrusted bytes. Each holds the parser to properties, not only to survival,
//! and panics where one breaks.
//!
//! A target answers with a fingerprint of what the parser did. The driver keeps inputs whose fingerprint is new, so that
//! mutation reaches deeper than the corpus without any instrumentation; `libfuzzer/` runs the same functions guided by coverage.

mod bodies;
mod bundles;
mod dpop;
pub mod driver;
mod heads;
mod identity;
mod requests;
mod support;
mod wire;

use std::path::PathBuf;

/// One parser under test.
#[derive(Clone, Copy)]
pub struct Target {
    pub name: &'static str,
    /// Panics where a property breaks; otherwise the fingerprint of what happened.
    pub run: fn(&[u8]) -> u64,
    /// Words that the parser gives a meaning to.
    pub words: &'static [&'static str],
    /// Seeds beyond `corpus/`, made from `vectors/`.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

fn none() -> Vec<Vec<u8>> {
    Vec::new()
}

/// Everything that reads bytes which a client, an upstream or the other end of a channel may choose.
pub const TARGETS: &[Target] = &[
    Target { name: "path", run: requests::path, words: requests::PATH_WORDS, seeds: requests::path_seeds },
    Target { name: "request", run: requests::request, words: requests::WORDS, seeds: requests::request_seeds },
    Target {
        name: "credentials",
        run: requests::credentials,
        words: requests::CREDENTIAL_WORDS,
        seeds: requests::credential_seeds,
    },
    Target { name: "dpop", run: dpop::proof, words: dpop::WORDS, seeds: dpop::seeds },
    Target { name: "response", run: requests::response, words: requests::WORDS, seeds: requests::response_seeds },
    Target { name: "json", run: bodies::json, words: bodies::JSON_WORDS, seeds: bodies::json_seeds },
    Target { name: "form", run: bodies::form, words: bodies::FORM_WORDS, seeds: bodies::form_seeds },
    Target {
        name: "multipart",
        run: bodies::multipart,
        words: bodies::MULTIPART_WORDS,
        seeds: bodies::multipart_seeds,
    },
    Target { name: "text", run: bodies::text, words: bodies::MEDIA_WORDS, seeds: none },
    Target { name: "media_type", run: bodies::media_type, words: bodies::MEDIA_WORDS, seeds: none },
    Target { name: "envelope", run: bundles::envelope, words: bundles::ENVELOPE_WORDS, seeds: bundles::envelope_seeds },
    Target { name: "payload", run: bundles::payload, words: bundles::PAYLOAD_WORDS, seeds: bundles::payload_seeds },
    Target { name: "headers", run: heads::headers, words: heads::WORDS, seeds: none },
    Target { name: "upstream_head", run: heads::upstream_head, words: heads::WORDS, seeds: none },
    Target { name: "guard", run: wire::guard, words: wire::HTTP1_WORDS, seeds: none },
    Target { name: "wire", run: wire::wire, words: wire::HTTP1_WORDS, seeds: none },
    Target { name: "frames", run: wire::frames, words: &[], seeds: wire::frame_seeds },
    Target { name: "proxy_protocol", run: wire::proxy_protocol, words: wire::PROXY_WORDS, seeds: wire::proxy_seeds },
    Target { name: "introspection", run: identity::introspection, words: identity::WORDS, seeds: none },
    Target { name: "revocations", run: identity::revocations, words: identity::WORDS, seeds: none },
];

/// The target called `name`.
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

impl Target {
    pub fn corpus_folder(&self) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(self.name)
    }

    /// The files of the corpus in a fixed order, then the made seeds.
    pub fn corpus(&self) -> Vec<Vec<u8>> {
        let mut paths: Vec<PathBuf> = std::fs::read_dir(self.corpus_folder())
            .map(|entries| entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect())
            .unwrap_or_default();
        paths.sort();
        let mut corpus: Vec<Vec<u8>> = paths.iter().filter_map(|path| std::fs::read(path).ok()).collect();
        corpus.extend((self.seeds)());
        corpus
    }
}
