//! The routes in use: their settings and their upstreams.

use super::upstreams::{Upstream, Upstreams};
use crate::config::Route;
use crate::net::NameId;

/// The routes, by the number that their sessions remember.
#[derive(Debug)]
pub(super) struct Routes(Vec<ActiveRoute>);

/// A route in use.
#[derive(Debug)]
pub(super) struct ActiveRoute {
    pub(super) settings: Route,
    pub(super) upstream: Upstream,
}

impl Routes {
    /// These routes, their upstreams listed. Names that are new are added to `names`.
    pub(super) fn new(routes: Vec<Route>, upstreams: &mut Upstreams, names: &mut Vec<NameId>) -> Self {
        let active = |settings: Route| {
            let upstream = upstreams.list(&settings.to, names);
            ActiveRoute { settings, upstream }
        };
        Self(routes.into_iter().map(active).collect())
    }

    /// The route with this number.
    pub(super) fn get(&self, route: u16) -> &ActiveRoute {
        &self.0[usize::from(route)]
    }

    /// The route with this number.
    pub(super) fn get_mut(&mut self, route: u16) -> &mut ActiveRoute {
        &mut self.0[usize::from(route)]
    }

    /// The numbers of those that list this name.
    pub(super) fn listing(&self, name: NameId) -> impl Iterator<Item = u16> {
        self.0.iter().zip(0..).filter(move |(route, _)| route.upstream.names().contains(&name)).map(|(_, number)| number)
    }

    /// All routes.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut ActiveRoute> {
        self.0.iter_mut()
    }
}
