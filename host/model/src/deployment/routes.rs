//! Which route answers a request: method and path → entry.
//!
//! A tree of path segments, walked without allocating: of hundreds of resources in one place, a request looks at one. Their
//! texts come from definitions, and requests only look them up, so the hash need not be secret. REST APIs choose the resource by
//! path alone and then look for the method; HTTP APIs choose among the routes that have the method ("full match", then greedy,
//! then `$default`). A request's literal segments are compared percent-decoded, its parameters stay as they are: decode them
//! with [`decode_segment`].

use std::collections::HashMap;
use std::ops::Range;

use foldhash::fast::FixedState;
use http::Method;

use super::Flavor;
use crate::uri::decode_segment;

/// The routes of one stage.
#[derive(Debug)]
pub struct Routes {
    flavor: Flavor,
    /// The root first; never empty.
    nodes: Vec<Node>,
    /// The `$default` route of an HTTP API.
    default: Option<usize>,
}

/// What a request matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// The place of the route, and where its parameters are in the path.
    Matched { entry: usize, params: Params },
    /// There is such a path, but not with this method.
    MethodNotAllowed,
    /// There is no such path.
    NotFound,
}

/// Where the parameters of a route are in the path that was selected by, in the order of the route's names.
///
/// The first eight are kept in place; further ones cost an allocation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Params {
    len: usize,
    inline: [Span; INLINE],
    spilled: Vec<Span>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Span {
    start: u32,
    end: u32,
}

const INLINE: usize = 8;

/// Why a route cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    #[error("the route is there twice")]
    Duplicate,
    #[error("parameter \"{{{name}}}\" stands where another route has \"{{{other}}}\"")]
    Conflict { name: String, other: String },
    #[error("path does not start with /")]
    NoSlash,
    #[error("path segment \"{0}\" is neither text nor a parameter in braces")]
    Segment(String),
    #[error("greedy parameter \"{0}\" is not the last segment")]
    GreedyNotLast(String),
    #[error("parameter \"{0}\" is in the path twice")]
    Repeated(String),
}

#[derive(Debug, Default)]
struct Node {
    literals: HashMap<Box<str>, usize, FixedState>,
    parameter: Option<(Box<str>, usize)>,
    greedy: Option<(Box<str>, Methods)>,
    here: Methods,
}

#[derive(Debug, Default)]
struct Methods {
    exact: Vec<(Method, usize)>,
    any: Option<usize>,
}

impl Methods {
    fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.any.is_none()
    }

    /// An exact method wins over `ANY`.
    fn find(&self, method: &Method) -> Option<usize> {
        self.exact
            .iter()
            .find(|(exact, _)| exact == method)
            .map(|(_, entry)| *entry)
            .or(self.any)
    }

    fn add(&mut self, method: Option<Method>, entry: usize) -> Result<(), RouteError> {
        let taken = match &method {
            None => self.any.is_some(),
            Some(method) => self.exact.iter().any(|(exact, _)| exact == method),
        };
        if taken {
            return Err(RouteError::Duplicate);
        }
        match method {
            None => self.any = Some(entry),
            Some(method) => self.exact.push((method, entry)),
        }
        Ok(())
    }
}

impl Routes {
    /// No routes yet.
    pub fn new(flavor: Flavor) -> Self {
        Self {
            flavor,
            nodes: vec![Node::default()],
            default: None,
        }
    }

    /// Adds a route; `method` `None` is `ANY`. Returns the names of its path parameters, in order.
    ///
    /// # Errors
    /// A path that is none, or one that no request could tell from another route's. Nothing is added then.
    pub fn add(
        &mut self,
        method: Option<Method>,
        path: &str,
        entry: usize,
    ) -> Result<Vec<String>, RouteError> {
        let segments = parse(path)?;
        let names = names(&segments)?;
        let mut at = 0;
        for segment in &segments {
            at = match segment {
                Segment::Literal(text) => self.literal(at, text),
                Segment::Parameter(name) => self.parameter(at, name)?,
                Segment::Greedy(name) => {
                    let (other, methods) = self.nodes[at]
                        .greedy
                        .get_or_insert_with(|| (Box::from(*name), Methods::default()));
                    if **other != **name {
                        return Err(RouteError::Conflict {
                            name: format!("{name}+"),
                            other: format!("{other}+"),
                        });
                    }
                    methods.add(method, entry)?;
                    return Ok(names);
                }
            };
        }
        self.nodes[at].here.add(method, entry)?;
        Ok(names)
    }

    /// Makes `entry` the `$default` route of an HTTP API.
    ///
    /// # Errors
    /// [`RouteError::Duplicate`] where there is one.
    pub fn add_default(&mut self, entry: usize) -> Result<(), RouteError> {
        if self.default.is_some() {
            return Err(RouteError::Duplicate);
        }
        self.default = Some(entry);
        Ok(())
    }

    fn literal(&mut self, at: usize, text: &str) -> usize {
        match self.nodes[at].literals.get(text) {
            Some(next) => *next,
            None => {
                let next = self.push();
                self.nodes[at].literals.insert(Box::from(text), next);
                next
            }
        }
    }

    fn parameter(&mut self, at: usize, name: &str) -> Result<usize, RouteError> {
        match &self.nodes[at].parameter {
            Some((other, next)) if **other == *name => Ok(*next),
            Some((other, _)) => Err(RouteError::Conflict {
                name: name.to_owned(),
                other: other.to_string(),
            }),
            None => {
                let next = self.push();
                self.nodes[at].parameter = Some((Box::from(name), next));
                Ok(next)
            }
        }
    }

    fn push(&mut self) -> usize {
        self.nodes.push(Node::default());
        self.nodes.len() - 1
    }

    /// Chooses the route of a request. `path` is what follows the stage, percent-encoded as received, without the query;
    /// empty means `/`.
    ///
    /// At each segment text wins over a parameter, and a parameter over a greedy one; an exact method wins over `ANY`.
    /// A REST API takes one slash at the end as if it were not there (Amazon API Gateway routes both alike); for an HTTP
    /// API it is a path of its own, which only greedy parameters and `$default` match.
    ///
    /// Source: Amazon API Gateway, "Create routes for HTTP APIs", "Routing API requests".
    pub fn select(&self, method: &Method, path: &str) -> Selection {
        let mut walk = Walk {
            routes: self,
            method,
            path,
            greedy: true,
            params: Params::default(),
            path_exists: false,
        };
        let found = match self.flavor {
            Flavor::Rest => walk.descend(0, 0),
            Flavor::Http => {
                walk.greedy = false;
                walk.descend(0, 0).or_else(|| {
                    walk.greedy = true;
                    walk.descend(0, 0)
                })
            }
        };
        match (found, self.default) {
            (Some(Found::Entry(entry)), _) => Selection::Matched {
                entry,
                params: walk.params,
            },
            (_, Some(entry)) => Selection::Matched {
                entry,
                params: Params::default(),
            },
            (Some(Found::OtherMethods), None) => Selection::MethodNotAllowed,
            (None, None) if walk.path_exists => Selection::MethodNotAllowed,
            (None, None) => Selection::NotFound,
        }
    }
}

/// What ends a walk.
enum Found {
    Entry(usize),
    /// The resource is found, and lacks the method.
    OtherMethods,
}

/// One request's way through the tree. It sees each node at most once (twice for HTTP APIs), whatever the path is.
struct Walk<'a> {
    routes: &'a Routes,
    method: &'a Method,
    path: &'a str,
    /// Whether greedy parameters are looked at.
    greedy: bool,
    params: Params,
    path_exists: bool,
}

impl Walk<'_> {
    /// Goes on at `node` with what follows `at` in the path: nothing, or a slash and more.
    fn descend(&mut self, node: usize, at: usize) -> Option<Found> {
        let node_at = &self.routes.nodes[node];
        let rest = &self.path[at..];
        let root = at == 0 && rest == "/";
        let at_end = rest.is_empty() || root || rest == "/" && self.routes.flavor == Flavor::Rest;
        if at_end && let Some(found) = self.choose(&node_at.here) {
            return Some(found);
        }
        if rest.is_empty() {
            return None;
        }
        let start = if rest.starts_with('/') { at + 1 } else { at };
        let end = self.path[start..]
            .find('/')
            .map_or(self.path.len(), |slash| start + slash);
        if start < end {
            if let Some(next) = literal(node_at, &self.path[start..end])
                && let Some(found) = self.descend(next, end)
            {
                return Some(found);
            }
            if let Some((_, next)) = &node_at.parameter {
                self.params.push(start, end);
                if let Some(found) = self.descend(*next, end) {
                    return Some(found);
                }
                self.params.pop();
            }
        }
        match &node_at.greedy {
            Some((_, methods)) if self.greedy && start < self.path.len() => {
                self.params.push(start, self.path.len());
                let found = self.choose(methods);
                if found.is_none() {
                    self.params.pop();
                }
                found
            }
            _ => None,
        }
    }

    fn choose(&mut self, methods: &Methods) -> Option<Found> {
        if methods.is_empty() {
            return None;
        }
        self.path_exists = true;
        match (methods.find(self.method), self.routes.flavor) {
            (Some(entry), _) => Some(Found::Entry(entry)),
            (None, Flavor::Rest) => Some(Found::OtherMethods),
            (None, Flavor::Http) => None,
        }
    }
}

fn literal(node: &Node, segment: &str) -> Option<usize> {
    if node.literals.is_empty() {
        return None;
    }
    node.literals.get(&*decode_segment(segment)).copied()
}

impl Params {
    fn push(&mut self, start: usize, end: usize) {
        // A path is shorter than a request head, whose limit is far below 4 GiB.
        let span = Span {
            start: start as u32,
            end: end as u32,
        };
        match self.inline.get_mut(self.len) {
            Some(place) => *place = span,
            None => self.spilled.push(span),
        }
        self.len += 1;
    }

    fn pop(&mut self) {
        self.len -= 1;
        self.spilled.truncate(self.len.saturating_sub(INLINE));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the parameter at `index` is in the path.
    pub fn range(&self, index: usize) -> Option<Range<usize>> {
        if index >= self.len {
            return None;
        }
        let span = self
            .inline
            .get(index)
            .or_else(|| self.spilled.get(index - INLINE))?;
        Some(span.start as usize..span.end as usize)
    }

    /// The parameter at `index` as it is in `path`, percent-encoded. `path` is the one that was selected by.
    pub fn get<'p>(&self, index: usize, path: &'p str) -> Option<&'p str> {
        path.get(self.range(index)?)
    }
}

enum Segment<'p> {
    Literal(&'p str),
    Parameter(&'p str),
    Greedy(&'p str),
}

fn parse(path: &str) -> Result<Vec<Segment<'_>>, RouteError> {
    let below = path.strip_prefix('/').ok_or(RouteError::NoSlash)?;
    if below.is_empty() {
        return Ok(Vec::new());
    }
    let below = below.strip_suffix('/').unwrap_or(below);
    let segments = below
        .split('/')
        .map(segment)
        .collect::<Result<Vec<_>, _>>()?;
    let (_, parents) = segments
        .split_last()
        .unwrap_or((&Segment::Literal(""), &[]));
    match parents.iter().find_map(|segment| {
        if let Segment::Greedy(name) = segment {
            Some(name)
        } else {
            None
        }
    }) {
        Some(name) => Err(RouteError::GreedyNotLast((*name).to_owned())),
        None => Ok(segments),
    }
}

fn segment(text: &str) -> Result<Segment<'_>, RouteError> {
    let wrong = || RouteError::Segment(text.to_owned());
    let Some(inner) = text
        .strip_prefix('{')
        .and_then(|text| text.strip_suffix('}'))
    else {
        return if text.is_empty() || text.contains(['{', '}']) {
            Err(wrong())
        } else {
            Ok(Segment::Literal(text))
        };
    };
    let (name, greedy) = inner
        .strip_suffix('+')
        .map_or((inner, false), |name| (name, true));
    if name.is_empty() || name.contains(['{', '}', '+']) {
        return Err(wrong());
    }
    Ok(if greedy {
        Segment::Greedy(name)
    } else {
        Segment::Parameter(name)
    })
}

fn names(segments: &[Segment<'_>]) -> Result<Vec<String>, RouteError> {
    let mut names: Vec<String> = Vec::new();
    for segment in segments {
        let (Segment::Parameter(name) | Segment::Greedy(name)) = segment else {
            continue;
        };
        if names.iter().any(|other| other == name) {
            return Err(RouteError::Repeated((*name).to_owned()));
        }
        names.push((*name).to_owned());
    }
    Ok(names)
}

#[cfg(test)]
mod tests;
