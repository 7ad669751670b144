//! Pipes of the simulated kernel.

use std::cell::RefCell;
use std::rc::Rc;

use crate::faults::Call;
use crate::world::World;

/// A pipe. What is in it when it goes is lost.
#[derive(Debug)]
pub(crate) struct SimPipe {
    pub(crate) world: Rc<RefCell<World>>,
    pub(crate) bytes: Vec<u8>,
}

impl Drop for SimPipe {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let mut world = self.world.borrow_mut();
        let held = self.bytes.len();
        world.note(Call::Pipe, usize::MAX, || format!("a pipe goes, with {held} bytes in it"));
        world.kernel.open -= 2;
        world.kernel.pipes -= 1;
    }
}
