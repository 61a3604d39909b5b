//! Sends many commands in pipelines of bounded size; every one must succeed.

use anyhow::{Result, bail};
use redis::{Cmd, Connection, ConnectionLike, Value};

const PIPELINE_COMMANDS_MAX: usize = 500;
const PIPELINE_BYTES_MAX: usize = 4 << 20;

pub struct Writer<'a> {
    connection: &'a mut Connection,
    packed: Vec<u8>,
    waiting: Vec<Cmd>,
    sent: u64,
}

impl<'a> Writer<'a> {
    pub const fn new(connection: &'a mut Connection) -> Self {
        Self { connection, packed: Vec::new(), waiting: Vec::new(), sent: 0 }
    }

    pub fn send(&mut self, command: Cmd) -> Result<()> {
        command.write_packed_command(&mut self.packed);
        self.waiting.push(command);
        if self.waiting.len() >= PIPELINE_COMMANDS_MAX || self.packed.len() >= PIPELINE_BYTES_MAX {
            self.flush()?;
        }
        Ok(())
    }

    /// Sends the rest; the number of commands sent in all.
    pub fn finish(mut self) -> Result<u64> {
        self.flush()?;
        Ok(self.sent)
    }

    fn flush(&mut self) -> Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let answers = self.connection.req_packed_commands(&self.packed, 0, self.waiting.len())?;
        for (answer, command) in answers.iter().zip(&self.waiting) {
            if let Value::ServerError(error) = answer {
                bail!("{error}, answering {}", crate::reader::show(&command.get_packed_command()));
            }
            self.sent = self.sent.saturating_add(1);
        }
        self.packed.clear();
        self.waiting.clear();
        Ok(())
    }
}
