//! The routes of a command line: which --to belongs to which --from.

use clap::ArgMatches;
use clap::parser::ValueSource;
use tproxy::Route;

use super::address::{Listeners, Ports, Upstream};
use super::routes::{Written, blank, wrong};
use super::settings::{Scope, Settings};

/// Where a relay listens that was not told where.
const DEFAULT_FROM: &str = "127.0.0.1:6101";

/// A group of options: what stands at or behind a --from, up to the next.
#[derive(Debug, Default)]
struct Group {
    from: Option<Listeners>,
    to: Vec<Upstream>,
}

/// The routes that these settings ask for, which came from these matches.
pub(super) fn routes(settings: &Settings, matches: &ArgMatches) -> Result<Vec<Written>, String> {
    let indices = |option| matches.indices_of(option).into_iter().flatten();
    let from = indices("from").zip(&settings.from);
    let to: Vec<_> = indices("to").zip(&settings.to).collect();
    let groups = if settings.from.len() < 2 {
        let from = settings.from.first().cloned();
        vec![Group { from, to: settings.to.clone() }]
    } else {
        let mut groups: Vec<(usize, Group)> = Vec::new();
        groups.extend(from.map(|(index, from)| (index, Group { from: Some(from.clone()), to: Vec::new() })));
        for (index, to) in to {
            match groups.iter_mut().rfind(|(begin, _)| *begin < index) {
                Some((_, group)) => group.to.push(to.clone()),
                None => {
                    return Err(format!(
                        "--to {} stands before the first --from: with several --from, write each --to behind its own",
                        written(&to.0)
                    ));
                }
            }
        }
        groups.into_iter().map(|(_, group)| group).collect()
    };
    let mut each_route = blank();
    settings.change_route(&mut each_route);
    if let Some((option, text)) = wrong(&each_route, "--") {
        return Err(format!("--{option} {text}"));
    }
    groups.into_iter().map(|group| group.route(each_route.clone())).collect()
}

impl Group {
    fn route(self, settings: Route) -> Result<Written, String> {
        let from = match self.from {
            Some(from) if self.to.is_empty() => {
                let from = written(&from.0);
                return Err(format!(
                    "--to <ADDR> is required: write where --from {from} leads, such as --to 127.0.0.1:8888"
                ));
            }
            None if self.to.is_empty() => {
                return Err(
                    "--to <ADDR> is required: write where to connect to, such as --to 127.0.0.1:8888, or --to echo:, \
                            or --config FILE"
                        .to_owned(),
                );
            }
            Some(from) => from,
            None => DEFAULT_FROM.parse()?,
        };
        let to = self.to.into_iter().map(|to| (to, None)).collect();
        Ok(Written { name: None, from: vec![(from, None)], to, settings })
    }
}

/// With a file, only options that are one for the process may stand on the command line.
pub(super) fn only_process_wide(matches: &ArgMatches) -> Result<(), String> {
    for (option, scope) in Settings::scopes() {
        let id = option.replace('-', "_");
        // A name has no option.
        let is_given = option != "name" && matches.value_source(&id) == Some(ValueSource::CommandLine);
        if is_given && *scope != Scope::Process {
            return Err(format!(
                "--{option} is a setting of routes: with --config, write {option} = \"...\" into the file instead"
            ));
        }
    }
    Ok(())
}

/// A list as it was written.
fn written<T: Clone>(list: &[Ports<T>]) -> String {
    list.iter().map(Ports::written).collect::<Vec<_>>().join(",")
}
