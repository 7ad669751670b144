//! The routes in use: their settings, and the endpoints of their upstreams.

use super::upstreams::{EndpointId, Endpoints};
use crate::config::{Host, Route};

/// The routes, by the number that their sessions remember.
#[derive(Debug)]
pub(super) struct Routes(Vec<ActiveRoute>);

/// A route in use.
#[derive(Debug)]
pub(super) struct ActiveRoute {
    pub(super) settings: Route,
    /// In the order in which they are tried.
    pub(super) endpoints: Box<[EndpointId]>,
}

impl Routes {
    /// These routes, their addresses listed as endpoints.
    pub(super) fn new(routes: Vec<Route>, endpoints: &mut Endpoints) -> Self {
        let active = |settings: Route| {
            let endpoints = settings
                .to
                .iter()
                .map(|host| match host {
                    Host::Address(address) => endpoints.list(address),
                    Host::Name { .. } => todo!(),
                })
                .collect();
            ActiveRoute { settings, endpoints }
        };
        Self(routes.into_iter().map(active).collect())
    }

    /// The route with this number.
    pub(super) fn get(&self, route: u16) -> &ActiveRoute {
        &self.0[usize::from(route)]
    }
}
