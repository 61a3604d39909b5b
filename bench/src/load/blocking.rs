//! A second client that waits for elements: blocking commands, which the first client's writes serve.

use std::thread;
use std::time::Duration;

use redis::{Cmd, ConnectionLike};

use super::generator::Generator;
use super::{Options, Shared, connected};
use crate::command;

/// How long a command waits for an element.
const WAIT_S: f64 = 0.05;
/// Between commands, so that lists and sorted sets are not emptied as fast as they fill.
const PAUSE: Duration = Duration::from_millis(5);

pub fn write(port: u16, options: Options, shared: &Shared) {
    // A sequence of its own: how far each client gets depends on the other.
    let mut generator = Generator::new(options.seed ^ 0x626c_6f63_6b69_6e67, options.keys_per_type);
    let mut connection = None;
    while !shared.is_stopping() {
        let Some(store) = connected(&mut connection, port, shared) else { continue };
        let command = generator.blocking_command();
        match store.req_packed_commands(&command.get_packed_command(), 0, 1) {
            Ok(answers) => shared.count(&[command], &answers),
            Err(error) => {
                shared.count_disconnect(&error);
                connection = None;
            }
        }
        thread::sleep(PAUSE);
    }
}

impl Generator {
    fn blocking_command(&mut self) -> Cmd {
        let (key, other) = self.two_keys("q");
        match self.rng.u32(0..6) {
            0 => command!("BLPOP", key, other, WAIT_S),
            1 => command!("BRPOP", key, WAIT_S),
            2 => command!("BLMOVE", key, other, "LEFT", "RIGHT", WAIT_S),
            3 => command!("BRPOPLPUSH", key, other, WAIT_S),
            4 => command!("BLMPOP", WAIT_S, 2, key, other, "LEFT", "COUNT", 2),
            _ => command!("BZPOPMIN", self.key("z"), self.key("z"), WAIT_S),
        }
    }
}
