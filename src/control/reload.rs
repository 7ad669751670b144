//! A reload: the file is read again, and the loop is told.

use log::warn;
use tproxy::Control;

use crate::cli::ConfigFile;
use crate::port_file::PortFile;

/// What is read and written at a reload.
#[derive(Debug)]
pub(crate) struct Reloader {
    pub(crate) file: ConfigFile,
    pub(crate) port_file: Option<PortFile>,
}

impl Reloader {
    /// Reads the file and hands it to the loop, which says what came of it. A file with an error changes nothing.
    pub(super) fn reload(&self, control: &Control) {
        let config = match self.file.load() {
            Ok(config) => config,
            Err(error) => return warn!("not reloaded, nothing has changed: {error}"),
        };
        // The loop has said why, if it was not.
        let Ok(reloaded) = control.reload(config) else { return };
        if let Some(file) = &self.port_file
            && let Err(error) = file.update(&reloaded.local_addrs)
        {
            warn!("{error}");
        }
    }
}
