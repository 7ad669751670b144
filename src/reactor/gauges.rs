//! How much of everything there is, for tests.

use super::{Net, Reactor};

/// How much of everything there is now, for tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gauges {
    /// Sessions in the table.
    pub sessions: usize,
    /// Buffers and pipes that flows hold.
    pub leases: usize,
    /// Open pipes.
    pub pipes: usize,
    /// Free buffers.
    pub spare_leases: usize,
    /// Entries in the table of alarms.
    pub alarms: usize,
    /// Sessions that will run in the next turn.
    pub ready: usize,
    /// Flows that wait for another slice.
    pub backlog: usize,
    /// Sessions that have an endpoint.
    pub with_endpoint: usize,
    /// Open listeners.
    pub listeners: usize,
    /// Routes that are configured or have sessions.
    pub routes: usize,
    /// Entries in the table of endpoints.
    pub endpoints: usize,
    /// Entries in the table of names.
    pub names: usize,
    /// Client addresses whose sessions are counted.
    pub client_addresses: usize,
}

impl<N: Net> Reactor<N> {
    /// How much of everything there is now.
    pub fn gauges(&self) -> Gauges {
        Gauges {
            sessions: self.table.len(),
            leases: self.pool.lent(),
            pipes: self.pool.pipes(),
            spare_leases: self.pool.free(),
            alarms: self.alarms.len(),
            ready: self.table.ready(),
            backlog: self.table.backlog(),
            with_endpoint: self.upstreams.endpoints.sessions(),
            listeners: self.listeners.len(),
            routes: self.routes.len(),
            endpoints: self.upstreams.endpoints.len(),
            names: self.upstreams.names.len(),
            client_addresses: self.listeners.client_addresses(),
        }
    }
}
