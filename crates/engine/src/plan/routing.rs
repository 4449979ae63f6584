//! From a canonical path to a path template: a trie with one level a segment, static text before variables.

use std::borrow::Cow;
use std::collections::HashMap;

use ahash::RandomState;
use percent_encoding::percent_decode_str;
use smallvec::SmallVec;

use super::path::{CanonicalPath, push_literal};

/// Nodes one look-up may visit. A node is reached by one pattern only, so that real descriptions need a few dozen; a
/// description built to explode is refused, not followed.
const MAX_VISITS: usize = 512;

/// Byte ranges of the variables' values in the canonical path, in template order.
pub(super) type Captures = SmallVec<[(usize, usize); 4]>;

/// A parsed path template.
#[derive(Debug)]
pub(super) struct Template {
    /// As written.
    pub text: String,
    pub segments: Vec<Segment>,
    /// Variable names in order.
    pub variables: Vec<String>,
    /// For each variable, whether its parameter has style `matrix`.
    pub matrix: Vec<bool>,
}

/// One segment: its literals, with a variable between each two. Static text is one literal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Segment {
    literals: Vec<String>,
}

impl Template {
    /// Parses a template; the message says what is wrong with it.
    pub fn parse(text: &str) -> Result<Template, String> {
        let Some(rest) = text.strip_prefix('/') else { return Err("the path does not begin with `/`".to_owned()) };
        let mut variables = Vec::new();
        let pieces: Vec<&str> = rest.split('/').collect();
        let mut segments = Vec::with_capacity(pieces.len());
        for (index, piece) in pieces.iter().enumerate() {
            if piece.is_empty() && index + 1 < pieces.len() {
                return Err("the path has an empty segment".to_owned());
            }
            if matches!(*piece, "." | "..") {
                return Err("the path has a dot segment".to_owned());
            }
            segments.push(Segment::parse(piece, &mut variables)?);
        }
        if let Some(twice) =
            variables.iter().enumerate().find(|(i, name)| variables.iter().take(*i).any(|n| n == *name))
        {
            return Err(format!("the variable `{}` stands twice", twice.1));
        }
        let matrix = vec![false; variables.len()];
        Ok(Template { text: text.to_owned(), segments, variables, matrix })
    }

    /// The path again with every literal in its own spelling, so that an escaped `:` cannot mean one thing here and
    /// another upstream. `captures` are moved along.
    pub fn respell(&self, canonical: &mut String, captures: &mut Captures) {
        let mut text = String::with_capacity(canonical.len() + 8);
        let mut moved = Captures::new();
        let mut values = captures.iter();
        for segment in &self.segments {
            text.push('/');
            for (index, literal) in segment.literals.iter().enumerate() {
                if index > 0 {
                    let Some(&(start, end)) = values.next() else { return };
                    let from = text.len();
                    text.push_str(canonical.get(start..end).unwrap_or_default());
                    moved.push((from, text.len()));
                }
                push_literal(&mut text, literal);
            }
        }
        *canonical = text;
        *captures = moved;
    }

    /// A path that this template matches: `value(name)` gives each variable's text, already escaped.
    pub fn fill(&self, mut value: impl FnMut(&str) -> String) -> String {
        let mut text = String::new();
        let mut names = self.variables.iter();
        for segment in &self.segments {
            text.push('/');
            for (index, literal) in segment.literals.iter().enumerate() {
                if index > 0 {
                    text.push_str(&names.next().map(|name| value(name)).unwrap_or_default());
                }
                push_literal(&mut text, literal);
            }
        }
        text
    }
}

impl Segment {
    fn parse(piece: &str, variables: &mut Vec<String>) -> Result<Segment, String> {
        let mut literals = Vec::new();
        let mut rest = piece;
        while let Some((literal, tail)) = rest.split_once('{') {
            let Some((name, after)) = tail.split_once('}') else { return Err("a `{` is not closed".to_owned()) };
            if literal.contains('}') || name.contains('{') {
                return Err("braces do not pair".to_owned());
            }
            if name.is_empty() {
                return Err("a variable has no name".to_owned());
            }
            if literal.is_empty() && !literals.is_empty() {
                return Err("two variables touch, so that nothing says where one ends".to_owned());
            }
            literals.push(literal.to_owned());
            variables.push(name.to_owned());
            rest = after;
        }
        if rest.contains('}') {
            return Err("a `}` is not opened".to_owned());
        }
        literals.push(rest.to_owned());
        if piece.contains(|c: char| c == '\\' || c.is_control()) {
            return Err("the path holds a backslash or a control character".to_owned());
        }
        Ok(Segment { literals })
    }

    fn as_static(&self) -> Option<&str> {
        match self.literals.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }

    fn is_whole_variable(&self) -> bool {
        matches!(self.literals.as_slice(), [before, after] if before.is_empty() && after.is_empty())
    }

    fn literal_bytes(&self) -> usize {
        self.literals.iter().map(String::len).sum()
    }

    /// Where the variables of a mixed segment stand in `text` (decoded).
    fn split(&self, text: &[u8]) -> Split {
        let [first, middle @ .., last] = self.literals.as_slice() else { return Split::No };
        let (start, end) = (first.len(), text.len().saturating_sub(last.len()));
        if start >= end || !text.starts_with(first.as_bytes()) || !text.ends_with(last.as_bytes()) {
            return Split::No;
        }
        let Some(leftmost) = split_leftmost(middle, text, start, end) else { return Split::No };
        if middle.is_empty() || split_rightmost(middle, text, start, end).as_ref() == Some(&leftmost) {
            return Split::One(leftmost);
        }
        Split::Several
    }
}

enum Split {
    No,
    One(Captures),
    /// A literal occurs inside a variable's value: readers would disagree where the value ends.
    Several,
}

fn split_leftmost(middle: &[String], text: &[u8], start: usize, end: usize) -> Option<Captures> {
    let mut captures = Captures::new();
    let mut from = start;
    for literal in middle {
        let window = text.get(from + 1..end)?;
        let at = from + 1 + memchr::memmem::find(window, literal.as_bytes())?;
        captures.push((from, at));
        from = at + literal.len();
    }
    (from < end).then(|| captures.push((from, end)))?;
    Some(captures)
}

fn split_rightmost(middle: &[String], text: &[u8], start: usize, end: usize) -> Option<Captures> {
    let mut captures = Captures::new();
    let mut to = end;
    for literal in middle.iter().rev() {
        let window = text.get(start..to.checked_sub(1)?)?;
        let at = start + memchr::memmem::rfind(window, literal.as_bytes())?;
        captures.push((at + literal.len(), to));
        to = at;
    }
    (start < to).then(|| captures.push((start, to)))?;
    captures.reverse();
    Some(captures)
}

/// What a path leads to.
pub(super) enum Found<'t> {
    /// The methods of the one template shape that matches, and the variables' values.
    Leaf(&'t Leaf, Captures),
    Nothing,
    /// Two readers could take the path for two different templates.
    Ambiguous(&'static str),
}

/// The methods that share one template shape: (method, operation, which of its paths).
#[derive(Debug, Default)]
pub(super) struct Leaf {
    pub methods: Vec<(Box<str>, usize, usize)>,
}

impl Leaf {
    pub fn method(&self, method: &str) -> Option<(usize, usize)> {
        self.methods.iter().find(|(name, ..)| **name == *method).map(|&(_, operation, path)| (operation, path))
    }
}

/// The trie. Node 0 is the root, reached by nothing.
pub(super) struct Router {
    nodes: Vec<Node>,
}

#[derive(Default)]
struct Node {
    statics: HashMap<Box<str>, usize, RandomState>,
    /// The same by lower-case text, to notice a path that a reader without case would take for a static one.
    folded: HashMap<Box<str>, SmallVec<[usize; 1]>, RandomState>,
    /// Most literal text first.
    mixed: Vec<(Segment, usize)>,
    variable: Option<usize>,
    leaf: Option<Leaf>,
}

impl Router {
    pub fn new() -> Router {
        Router { nodes: vec![Node::default()] }
    }

    /// Adds one method of one template; the message says which operation has it already.
    pub fn add(&mut self, template: &Template, method: &str, operation: usize, path: usize) -> Result<(), usize> {
        let mut at = 0;
        for segment in &template.segments {
            at = self.child(at, segment);
        }
        let Some(node) = self.nodes.get_mut(at) else { return Ok(()) };
        let leaf = node.leaf.get_or_insert_default();
        if let Some((other, _)) = leaf.method(method) {
            return Err(other);
        }
        leaf.methods.push((method.into(), operation, path));
        Ok(())
    }

    fn child(&mut self, at: usize, segment: &Segment) -> usize {
        let new = self.nodes.len();
        let Some(node) = self.nodes.get_mut(at) else { return at };
        let child = if let Some(text) = segment.as_static() {
            let child = *node.statics.entry(text.into()).or_insert(new);
            if child == new {
                node.folded.entry(text.to_ascii_lowercase().into()).or_default().push(new);
            }
            child
        } else if segment.is_whole_variable() {
            *node.variable.get_or_insert(new)
        } else if let Some((_, child)) = node.mixed.iter().find(|(known, _)| known == segment) {
            *child
        } else {
            node.mixed.push((segment.clone(), new));
            node.mixed.sort_by_key(|(known, _)| (std::cmp::Reverse(known.literal_bytes()), known.literals.clone()));
            new
        };
        if child == new {
            self.nodes.push(Node::default());
        }
        child
    }

    /// Finds the template for a path: at each segment static text comes before mixed segments, those before variables.
    pub fn find(&self, path: &CanonicalPath) -> Found<'_> {
        let mut walk = Walk::new(self, path, false);
        let found = walk.descend(0, 0);
        if walk.visits > MAX_VISITS {
            return Found::Ambiguous("the path fits too many templates");
        }
        if walk.several {
            return Found::Ambiguous("a template's literal occurs inside a variable's value");
        }
        let Some(leaf) = found else { return Found::Nothing };
        let captures = walk.captures;
        if walk.folds && self.differs_without_case(path, leaf) {
            return Found::Ambiguous("the path would be another one if case did not matter");
        }
        Found::Leaf(leaf, captures)
    }

    fn differs_without_case(&self, path: &CanonicalPath, leaf: &Leaf) -> bool {
        let mut walk = Walk::new(self, path, true);
        let other = walk.descend(0, 0);
        walk.visits > MAX_VISITS || other.is_some_and(|other| !std::ptr::eq(other, leaf))
    }
}

struct Walk<'t, 's> {
    router: &'t Router,
    path: &'s str,
    escaped: bool,
    /// Take static text without case.
    fold: bool,
    /// A variable took what is a static segment in another case.
    folds: bool,
    several: bool,
    visits: usize,
    captures: Captures,
}

impl<'t, 's> Walk<'t, 's> {
    fn new(router: &'t Router, path: &'s CanonicalPath, fold: bool) -> Walk<'t, 's> {
        Walk {
            router,
            path: &path.text,
            escaped: path.escaped,
            fold,
            folds: false,
            several: false,
            visits: 0,
            captures: Captures::new(),
        }
    }

    /// `slash` is the position of the `/` before the next segment, or the end of the path. The depth is the trie's.
    fn descend(&mut self, node: usize, slash: usize) -> Option<&'t Leaf> {
        self.visits += 1;
        if self.visits > MAX_VISITS {
            return None;
        }
        let node = self.router.nodes.get(node)?;
        if slash >= self.path.len() {
            return node.leaf.as_ref();
        }
        let start = slash + 1;
        let rest = self.path.get(start..)?;
        let end = start + memchr::memchr(b'/', rest.as_bytes()).unwrap_or(rest.len());
        let raw = self.path.get(start..end)?;
        let decoded = if self.escaped { percent_decode_str(raw).decode_utf8_lossy() } else { Cow::Borrowed(raw) };

        if let Some(leaf) = self.descend_static(node, &decoded, end) {
            return Some(leaf);
        }
        let kept = self.captures.len();
        for (segment, child) in &node.mixed {
            match segment.split(decoded.as_bytes()) {
                Split::No => continue,
                Split::Several => self.several = true,
                Split::One(found) => {
                    self.note_case(node, &decoded);
                    self.captures
                        .extend(found.iter().map(|&(from, to)| (start + raw_at(raw, from), start + raw_at(raw, to))));
                    if let Some(leaf) = self.descend(*child, end) {
                        return Some(leaf);
                    }
                    self.captures.truncate(kept);
                }
            }
        }
        let variable = node.variable.filter(|_| !raw.is_empty())?;
        self.note_case(node, &decoded);
        self.captures.push((start, end));
        let leaf = self.descend(variable, end);
        if leaf.is_none() {
            self.captures.truncate(kept);
        }
        leaf
    }

    fn descend_static(&mut self, node: &'t Node, decoded: &str, end: usize) -> Option<&'t Leaf> {
        if !self.fold {
            return node.statics.get(decoded).and_then(|&child| self.descend(child, end));
        }
        let children = node.folded.get(decoded.to_ascii_lowercase().as_str())?;
        children.iter().find_map(|&child| self.descend(child, end))
    }

    fn note_case(&mut self, node: &Node, decoded: &str) {
        if !self.folds && !self.fold && !node.folded.is_empty() && !node.statics.contains_key(decoded) {
            self.folds = node.folded.contains_key(decoded.to_ascii_lowercase().as_str());
        }
    }
}

/// The position in `raw` of the decoded byte `at`.
fn raw_at(raw: &str, at: usize) -> usize {
    let bytes = raw.as_bytes();
    let mut position = 0;
    for _ in 0..at {
        position += if bytes.get(position) == Some(&b'%') { 3 } else { 1 };
    }
    position
}

#[cfg(test)]
mod tests {
    use super::super::path::canonicalise;
    use super::*;

    fn router(templates: &[&str]) -> Router {
        let mut router = Router::new();
        for (index, text) in templates.iter().enumerate() {
            router.add(&Template::parse(text).unwrap(), "GET", index, 0).unwrap();
        }
        router
    }

    fn find(router: &Router, raw: &str) -> Result<Option<(usize, Vec<String>)>, &'static str> {
        let path = canonicalise(raw).unwrap();
        match router.find(&path) {
            Found::Nothing => Ok(None),
            Found::Ambiguous(why) => Err(why),
            Found::Leaf(leaf, captures) => Ok(Some((
                leaf.method("GET").unwrap().0,
                captures.iter().map(|&(from, to)| path.text[from..to].to_owned()).collect(),
            ))),
        }
    }

    #[test]
    fn static_text_comes_before_variables_at_each_segment() {
        let router = router(&["/users/{id}", "/users/me", "/users/{id}/x", "/users/me/y", "/{a}/me/z"]);
        let captured = |raw: &str| find(&router, raw).unwrap();
        assert_eq!(captured("/users/me"), Some((1, vec![])));
        assert_eq!(captured("/users/7"), Some((0, vec!["7".into()])));
        assert_eq!(captured("/users/me/x"), Some((2, vec!["me".into()])));
        assert_eq!(captured("/users/me/y"), Some((3, vec![])));
        assert_eq!(captured("/users/me/z"), Some((4, vec!["users".into()])));
        assert_eq!(captured("/users"), None);
        assert_eq!(captured("/users/"), None);
        assert_eq!(captured("/users/7/"), None);
        assert_eq!(captured("/"), None);
    }

    #[test]
    fn mixed_segments_split_at_their_literals() {
        let router = router(&["/report.{format}", "/{a}-{b}", "/{id}:cancel", "/{id}"]);
        let captured = |raw: &str| find(&router, raw).unwrap();
        assert_eq!(captured("/report.tar.gz"), Some((0, vec!["tar.gz".into()])));
        assert_eq!(captured("/x-y"), Some((1, vec!["x".into(), "y".into()])));
        assert_eq!(captured("/7:cancel"), Some((2, vec!["7".into()])));
        assert_eq!(captured("/7%3Acancel"), Some((2, vec!["7".into()])));
        assert_eq!(captured("/-y"), Some((3, vec!["-y".into()])));
        assert_eq!(captured("/report."), Some((3, vec!["report.".into()])));
        assert_eq!(captured("/%41%3Ab-%C3%A9"), Some((1, vec!["A%3Ab".into(), "%C3%A9".into()])));
        assert!(find(&router, "/x-y-z").is_err());
    }

    #[test]
    fn literals_are_compared_decoded_and_respelled() {
        let template = Template::parse("/a:b/{x}/c d").unwrap();
        let mut router = Router::new();
        router.add(&template, "GET", 0, 0).unwrap();
        let mut path = canonicalise("/a%3ab/1%2c2/c%20d").unwrap();
        let Found::Leaf(_, mut captures) = router.find(&path) else { panic!("no match") };
        template.respell(&mut path.text, &mut captures);
        assert_eq!(path.text, "/a:b/1%2C2/c%20d");
        assert_eq!(&path.text[captures[0].0..captures[0].1], "1%2C2");
    }

    #[test]
    fn a_variable_does_not_take_another_case_of_static_text() {
        let router = router(&["/users/{id}", "/users/admin", "/users/Root/keys"]);
        assert!(find(&router, "/users/ADMIN").is_err());
        assert!(find(&router, "/users/%41dmin").is_err());
        assert_eq!(find(&router, "/users/root").unwrap(), Some((0, vec!["root".into()])));
        assert_eq!(find(&router, "/USERS/admin").unwrap(), None);
    }

    #[test]
    fn bad_templates_are_refused() {
        for text in
            ["a", "", "/{", "/}", "/{}", "/a}b{", "/{a{b}}", "/{a}{b}", "/{a}/{a}", "//a", "/a//b", "/../a", "/./a"]
        {
            assert!(Template::parse(text).is_err(), "{text}");
        }
        for text in ["/", "/a/", "/{a}/", "/.well-known/x", "/a.{b}"] {
            assert!(Template::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn one_method_of_one_shape_belongs_to_one_operation() {
        let mut router = Router::new();
        router.add(&Template::parse("/a/{x}").unwrap(), "GET", 0, 0).unwrap();
        assert_eq!(router.add(&Template::parse("/a/{y}").unwrap(), "GET", 1, 0), Err(0));
        assert_eq!(router.add(&Template::parse("/a/{y}").unwrap(), "PUT", 1, 0), Ok(()));
    }

    #[test]
    fn a_description_built_to_explode_is_refused_quickly() {
        let mut templates = Vec::new();
        for bits in 0..4096u32 {
            let path: String =
                (0..12).map(|i| if bits >> i & 1 == 1 { "/a".to_owned() } else { format!("/{{v{i}}}") }).collect();
            templates.push(path + "/end");
        }
        let texts: Vec<&str> = templates.iter().map(String::as_str).collect();
        let router = router(&texts);
        assert!(find(&router, &("/a".repeat(12) + "/other")).is_err());
        assert_eq!(find(&router, &("/a".repeat(12) + "/end")).unwrap(), Some((4095, vec![])));
    }
}
