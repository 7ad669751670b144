//! A reload: the file is read again, and the loop is told.

use log::{info, warn};
use tproxy::Control;

use super::inherit::Inheritance;
use crate::cli::{Again, ConfigFile};
use crate::written_file::{WrittenFile, lines};

/// What is read and written at a reload.
#[derive(Debug)]
pub(crate) struct Reloader {
    pub(crate) file: ConfigFile,
    pub(crate) port_file: Option<WrittenFile>,
    pub(crate) inherited: Inheritance,
}

impl Reloader {
    /// Reads the file and hands it to the loop, which says what came of it. A file with an error changes nothing.
    pub(super) fn reload(&self, control: &Control) {
        let Again { config, needs_restart } = match self.file.load(&self.inherited) {
            Ok(again) => again,
            Err(error) => return warn!("not reloaded, nothing has changed: {error}"),
        };
        // The loop has said why, if it was not.
        let Ok(reloaded) = control.reload(config) else { return };
        if !needs_restart.is_empty() {
            let verb = if needs_restart.len() == 1 { "needs" } else { "need" };
            info!("{} {verb} a restart", needs_restart.join(", "));
        }
        if let Some(file) = &self.port_file
            && let Err(error) = file.update(&lines(&reloaded.local_addrs))
        {
            warn!("{error}");
        }
    }
}
