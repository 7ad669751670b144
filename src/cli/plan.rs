//! What the command line and the file ask for, and what becomes of it at start.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::time::Duration;

use tproxy::{Config, Host, Route};

use super::address::{Listen, Target};
use super::complaint::{Complaint, Place, Source};
use super::inherited::Which;
use super::names;
use super::routes::{Draft, LISTENERS_MAX, doubled};
use crate::control::{Inheritance, Interrupt, Waited};
use crate::echo;

/// What is asked for: checked, but nothing is looked up, started or listened on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Without its routes.
    pub(super) config: Config,
    pub(super) routes: Vec<Draft>,
    pub(super) source: Source,
}

/// Why there is no configuration.
#[derive(Debug)]
pub(crate) enum Problem {
    /// What was written is impossible.
    Usage(String),
    /// A name is none of ours.
    Listen(String),
    /// The built-in server cannot start.
    Start(io::Error),
    /// A stop signal came first.
    Stopped,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(line) | Self::Listen(line) => f.write_str(line),
            Self::Start(error) => write!(f, "cannot start the built-in echo server: {error}"),
            Self::Stopped => f.write_str("asked to stop"),
        }
    }
}

/// How long the names of listeners may take, all together.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

impl Plan {
    /// How many listeners it has at least: a name may have several addresses.
    pub(super) fn listeners(&self) -> usize {
        self.routes.len()
    }

    /// Where it was written, for a complaint about the whole: the option, or the file.
    pub(crate) fn origin(&self) -> String {
        match &self.source {
            Source::CommandLine => "--to".to_owned(),
            Source::File { path, .. } => path.display().to_string(),
        }
    }

    /// The numbers of descriptors that its listeners are.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        self.routes.iter().filter_map(|draft| match &draft.from {
            Listen::Inherited(Which::Number(number)) => Some(*number),
            Listen::Inherited(Which::Name(_)) | Listen::Address(_) | Listen::Name(..) | Listen::Unix(_) => None,
        })
    }

    /// The configuration. Looks up the names of listeners, for at most 5 s and no longer than until a stop signal, and starts
    /// the built-in server if a route leads there.
    pub(crate) fn config(&self, interrupt: &Interrupt, inherited: &Inheritance) -> Result<Config, Problem> {
        let mut drafts = Vec::new();
        let mut answers = self.look_up(interrupt)?.into_iter();
        for draft in &self.routes {
            match &draft.from {
                Listen::Address(_) | Listen::Unix(_) => drafts.push(draft.clone()),
                Listen::Inherited(which) => {
                    let sockets =
                        inherited.find(which).map_err(|why| self.nothing_inherited(which, draft.place, &why))?;
                    drafts.extend(sockets.into_iter().map(|address| {
                        let from = address.inet().map_or(Listen::Unix(address), Listen::Address);
                        Draft { from, ..draft.clone() }
                    }));
                }
                Listen::Name(name, port) => {
                    let ours = answers.next().unwrap_or_else(|| Err("it was not looked up".to_owned()));
                    let ours = ours.map_err(|why| self.cannot_listen(name, *port, draft.place, &why))?;
                    drafts.extend(ours.into_iter().map(|mut address| {
                        address.set_port(*port);
                        Draft { from: Listen::Address(address), ..draft.clone() }
                    }));
                }
            }
        }
        if let Some(complaint) = doubled(&drafts).first() {
            return Err(Problem::Usage(self.source.line(complaint)));
        }
        if drafts.len() > LISTENERS_MAX {
            let text = format!("{} listeners, with all addresses of names; {LISTENERS_MAX} is the most", drafts.len());
            let complaint = Complaint { key: "from", place: drafts.last().and_then(|draft| draft.place), text };
            return Err(Problem::Usage(self.source.line(&complaint)));
        }
        let mut config = self.config.clone();
        if drafts.iter().any(|draft| draft.to.iter().any(|(target, _)| *target == Target::Echo)) {
            echo::limit(&mut config);
        }
        config.routes = drafts.into_iter().map(route).collect::<Result<_, _>>().map_err(Problem::Start)?;
        Ok(config)
    }

    /// The addresses that are ours, for each listener that is a name.
    fn look_up(&self, interrupt: &Interrupt) -> Result<Vec<Result<Vec<SocketAddr>, String>>, Problem> {
        let name = |draft: &Draft| match &draft.from {
            Listen::Name(name, port) => Some((name.clone(), *port, draft.place)),
            Listen::Address(_) | Listen::Unix(_) | Listen::Inherited(_) => None,
        };
        let names: Vec<_> = self.routes.iter().filter_map(name).collect();
        let Some((first, port, place)) = names.first().cloned() else { return Ok(Vec::new()) };
        let hosts: Vec<_> = names.into_iter().map(|(name, _, _)| name).collect();
        match interrupt.wait_for(LOOKUP_TIMEOUT, move || names::ours(&hosts)) {
            Ok(Waited::Done(answers)) => Ok(answers),
            Ok(Waited::Stopped) => Err(Problem::Stopped),
            Ok(Waited::TimedOut) => {
                let why = format!("its lookup takes longer than {} s", LOOKUP_TIMEOUT.as_secs());
                Err(self.cannot_listen(&first, port, place, &why))
            }
            Err(error) => Err(self.cannot_listen(&first, port, place, &error.to_string())),
        }
    }

    fn nothing_inherited(&self, which: &Which, place: Place, why: &str) -> Problem {
        Problem::Listen(self.source.line(&Complaint { key: "from", place, text: format!("{which}: {why}") }))
    }

    fn cannot_listen(&self, name: &str, port: u16, place: Place, why: &str) -> Problem {
        let text = format!("{name}:{port}: cannot listen there: {why} (write an address of this machine)");
        Problem::Listen(self.source.line(&Complaint { key: "from", place, text }))
    }
}

fn route(draft: Draft) -> io::Result<Route> {
    let mut route = draft.route;
    match draft.from {
        Listen::Address(address) => route.from = address.into(),
        Listen::Unix(address) => route.from = address,
        Listen::Name(..) | Listen::Inherited(_) => debug_assert!(false, "a listener without an address"),
    }
    for (target, _) in draft.to {
        route.to.push(match target {
            Target::Address(address) => address.into(),
            Target::Unix(address) => address.into(),
            Target::Name(name, port) => Host::name(&name, port),
            Target::Echo => echo::address()?.into(),
        });
    }
    Ok(route)
}
