//! What an earlier call may still have under way must not be carried out behind a later one.
//!
//! A store executes what it receives though nobody waits for the answer any more. So the connections over which
//! roles are changed have a name, and a new one kills all others of that name before it is used.

use super::super::{
    connection::{Connection, Failed, Way},
    driver::not_yet,
};
use crate::stores::driver::DriverError;

const NAME: &str = "segue-switch";

/// Nothing is said over it before the store knows its name.
pub async fn connect(way: &Way) -> Result<Connection, DriverError> {
    let mut connection = way.connect().await.map_err(not_yet(way))?;
    let name = redis::cmd("CLIENT").arg("SETNAME").arg(NAME).take();
    connection.ask::<()>(&name).await.map_err(not_yet(way))?;
    kill_others(&mut connection).await.map_err(not_yet(way))?;
    Ok(connection)
}

async fn kill_others(connection: &mut Connection) -> Result<(), Failed> {
    let own: u64 = connection.ask(redis::cmd("CLIENT").arg("ID")).await?;
    let clients: String = connection.ask(redis::cmd("CLIENT").arg("LIST")).await?;
    for id in named(&clients).filter(|id| *id != own) {
        // One that has gone meanwhile is no error.
        let _: u64 = connection.ask(redis::cmd("CLIENT").arg("KILL").arg("ID").arg(id)).await?;
    }
    Ok(())
}

fn named(clients: &str) -> impl Iterator<Item = u64> {
    let field = |line: &str, name: &str| {
        line.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
    };
    clients
        .lines()
        .filter(move |line| field(line, "name").as_deref() == Some(NAME))
        .filter_map(move |line| field(line, "id")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_connections_of_that_name_are_meant() {
        let clients = "id=3 addr=127.0.0.1:5 fd=8 name= age=1\nid=4 addr=127.0.0.1:6 name=segue-switch age=2 \
            laddr=127.0.0.1:7\nid=5 name=segue-switcher age=1\n";
        assert_eq!(named(clients).collect::<Vec<_>>(), [4]);
    }
}
